/* SPDX-License-Identifier: Apache-2.0
 * The command line: what main.c's table and the commands share. One command = one file cmd_NAME.c that
 * defines its struct soothe__command, and one line in the table of main.c.
 *
 * stdout carries the result, stderr everything else. */
#ifndef SOOTHE_CLI_H
#define SOOTHE_CLI_H

#include <popt.h>

#include "base/base.h"

enum { SOOTHE__EXIT_DONE = 0, SOOTHE__EXIT_FAILED = 1, SOOTHE__EXIT_MISUSE = 2 };

struct soothe__command {
    const char *name;
    int (*run)(int argc, const char **argv); /* argv[0] is the command's name; returns the exit code */
    const char *summary;                     /* one line without a full stop                        */
    const char *help;                        /* begins with a working example; ends in a newline    */
};

extern const struct soothe__command soothe__command_pull;
int                                 soothe__cmd_pull(int argc, const char **argv);
extern const struct soothe__command soothe__command_run;
int                                 soothe__cmd_run(int argc, const char **argv);
extern const struct soothe__command soothe__command_demo;
int                                 soothe__cmd_demo(int argc, const char **argv);
extern const struct soothe__command soothe__command_calibrator;
int                                 soothe__cmd_calibrator(int argc, const char **argv);
extern const struct soothe__command soothe__command_calibrator_train; /* a subcommand of calibrator */
int                                 soothe__cmd_calibrator_train(int argc, const char **argv);
extern const struct soothe__command soothe__command_align;
int                                 soothe__cmd_align(int argc, const char **argv);
extern const struct soothe__command soothe__command_ppl;
int                                 soothe__cmd_ppl(int argc, const char **argv);
extern const struct soothe__command soothe__command_lasso;
int                                 soothe__cmd_lasso(int argc, const char **argv);
extern const struct soothe__command soothe__command_eval;
int                                 soothe__cmd_eval(int argc, const char **argv);
extern const struct soothe__command soothe__command_utility;
int                                 soothe__cmd_utility(int argc, const char **argv);
extern const struct soothe__command soothe__command_tune;
int                                 soothe__cmd_tune(int argc, const char **argv);
extern const struct soothe__command soothe__command_score;
int                                 soothe__cmd_score(int argc, const char **argv);
extern const struct soothe__command soothe__command_score_train; /* subcommands of score */
int                                 soothe__cmd_score_train(int argc, const char **argv);
extern const struct soothe__command soothe__command_score_test;
int                                 soothe__cmd_score_test(int argc, const char **argv);
extern const struct soothe__command soothe__command_control_vector;
int                                 soothe__cmd_control_vector(int argc, const char **argv);
extern const struct soothe__command soothe__command_probe;
int                                 soothe__cmd_probe(int argc, const char **argv);
extern const struct soothe__command soothe__command_sasa;
int                                 soothe__cmd_sasa(int argc, const char **argv);
extern const struct soothe__command soothe__command_polar;
int                                 soothe__cmd_polar(int argc, const char **argv);
extern const struct soothe__command soothe__command_nado;
int                                 soothe__cmd_nado(int argc, const char **argv);
extern const struct soothe__command soothe__command_methods;
int                                 soothe__cmd_methods(int argc, const char **argv);
extern const struct soothe__command soothe__command_cfl;
int                                 soothe__cmd_cfl(int argc, const char **argv);
extern const struct soothe__command soothe__command_edit;
int                                 soothe__cmd_edit(int argc, const char **argv);
extern const struct soothe__command soothe__command_edit_dinm; /* a subcommand of edit */
int                                 soothe__cmd_edit_dinm(int argc, const char **argv);

/* ---- options.c ---------------------------------------------------------------------------------- */

/* Reads a command's options by popt: those of `options` (end it with POPT_TABLEEND), --help and -h. What an
 * option points to is filled; the remaining words are had from *context with poptGetArg.
 * returns  -1 to go on, else the exit code to return at once (0 after --help, 2 after misuse)
 * context  the caller's to free with poptFreeContext, in every case (NULL is fine) */
int soothe__options_read(poptContext *context, const struct soothe__command *command, int argc, const char **argv,
                         const struct poptOption *options);

/* Rows of such a table, for a command that keeps what was chosen in the fields of a variable c: a text, texts of which
 * several may be given, a flag. */
#define TEXT_OPTION(long_name, letter, field, about, value)                                                            \
    { long_name, letter, POPT_ARG_STRING, &c.field, 0, about, value }
#define LIST_OPTION(long_name, field, about, value)                                                                    \
    { long_name, '\0', POPT_ARG_ARGV, &c.field, 0, about, value }
#define FLAG_OPTION(long_name, field, about)                                                                           \
    { long_name, '\0', POPT_ARG_NONE, &c.field, 0, about, NULL }
/* popt's texts are the command's to free: n of them, any NULL; and a list of them (NULL is fine). */
void soothe__free_texts(char *const *texts, size_t n);
void soothe__free_list(char **list);
size_t soothe__list_length(char *const *list);

/* Print "soothe: <sentence>" on stderr and return the exit code. */
int soothe__print_failure(const struct soothe_error *err);                                                    /* 1 */
int soothe__print_misuse(const char *command, const char *format, ...) __attribute__((format(printf, 2, 3))); /* 2 */

/* Flushes stdout; what could not be written (a full disk) makes exit code 1 out of 0. A reader that
 * closed the pipe is no failure. */
int soothe__finish_stdout(int exit_code);

/* ---- subcommands.c ------------------------------------------------------------------------------------ */

/* Runs the one of n subcommands, named "COMMAND WORD", whose word is argv[1]; --help lists them. */
int soothe__run_subcommand(const struct soothe__command *command, const struct soothe__command *const *subcommands,
                           size_t n, int argc, const char **argv);

#endif /* SOOTHE_CLI_H */
