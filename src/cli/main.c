/* SPDX-License-Identifier: Apache-2.0
 * soothe: finds the command and hands over. */
#define _XOPEN_SOURCE 700
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "llama.h"

static const struct soothe__command *const COMMANDS[] = {
    &soothe__command_pull,
    &soothe__command_run,
    &soothe__command_demo,
    &soothe__command_calibrator,
    &soothe__command_align,
    &soothe__command_ppl,
    &soothe__command_lasso,
    &soothe__command_eval,
    &soothe__command_utility,
    &soothe__command_tune,
    &soothe__command_score,
    &soothe__command_probe,
    &soothe__command_sasa,
    &soothe__command_control_vector,
    &soothe__command_polar,
    &soothe__command_nado,
    &soothe__command_methods,
    &soothe__command_cfl,
    &soothe__command_edit,
};
enum { N_COMMANDS = sizeof COMMANDS / sizeof *COMMANDS };

static void print_commands(FILE *out) {
    fputs("soothe " SOOTHE_VERSION ": makes a language model less toxic while it speaks\n\n"
          "    soothe COMMAND [OPTIONS]        soothe help COMMAND shows a working example first\n\n",
          out);
    for (size_t i = 0; i < N_COMMANDS; i++)
        fprintf(out, "    %-12s %s\n", COMMANDS[i]->name, COMMANDS[i]->summary);
}

static const struct soothe__command *find_command(const char *name) {
    for (size_t i = 0; i < N_COMMANDS; i++)
        if (strcmp(COMMANDS[i]->name, name) == 0)
            return COMMANDS[i];
    return NULL;
}

static int run_command(const char *name, int argc, const char **argv) {
    const struct soothe__command *command = find_command(name);
    if (!command) {
        fprintf(stderr, "soothe: there is no command \"%s\" (soothe help lists them)\n", name);
        return SOOTHE__EXIT_MISUSE;
    }
    return soothe__finish_stdout(command->run(argc, argv));
}

/* "soothe help pull" is "soothe pull --help". */
static int help(const char *name) {
    if (name) {
        const char *argv[] = {name, "--help", NULL};
        return run_command(name, 2, argv);
    }
    print_commands(stdout);
    return soothe__finish_stdout(SOOTHE__EXIT_DONE);
}

/* The engine's own messages: only what it calls an error, and only with SOOTHE_VERBOSE all of them. */
static void on_engine_message(enum ggml_log_level level, const char *text, void *user) {
    const bool *verbose = user;
    if (*verbose || level == GGML_LOG_LEVEL_ERROR)
        fputs(text, stderr);
}

/* The engine's threads meet many thousand times per token. While other programs run, threads that wait by
 * spinning take the processor from those they wait for (24 tokens: 53 s instead of 0.5 s), so let them sleep after
 * a short spin. OpenMP reads its settings before main: hence the program begins again with them. */
static void start_again_with_short_spin(const char **argv) {
    char          program[4096];
    const ssize_t n = readlink("/proc/self/exe", program, sizeof program - 1);
    if (n <= 0 || getenv("OMP_WAIT_POLICY") || getenv("GOMP_SPINCOUNT") || setenv("GOMP_SPINCOUNT", "1000", 0))
        return;
    program[n] = '\0';
    execv(program, (char *const *)(uintptr_t)argv); /* which does not write to argv */
}

int main(int argc, const char **argv) {
    start_again_with_short_spin(argv);
    static bool verbose;
    verbose = getenv("SOOTHE_VERBOSE") != NULL;
    llama_log_set(on_engine_message, &verbose);
    signal(SIGPIPE, SIG_IGN); /* a closed pipe is an error of the write, not the end of the program */
    if (argc < 2) {
        print_commands(stderr);
        return SOOTHE__EXIT_MISUSE;
    }
    const char *name = argv[1];
    if (!strcmp(name, "--help") || !strcmp(name, "-h") || !strcmp(name, "help"))
        return help(argc > 2 ? argv[2] : NULL);
    if (!strcmp(name, "--version") || !strcmp(name, "version")) {
        puts("soothe " SOOTHE_VERSION);
        return soothe__finish_stdout(SOOTHE__EXIT_DONE);
    }
    return run_command(name, argc - 1, argv + 1);
}
