/* SPDX-License-Identifier: Apache-2.0
 * Options by popt, help that begins with an example, and sentences on stderr. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

static void print_help(poptContext context, const struct soothe__command *command) {
    printf("%s\n", command->help);
    poptPrintHelp(context, stdout, 0);
}

int soothe__options_read(poptContext *context, const struct soothe__command *command, int argc, const char **argv,
                         const struct poptOption *options) {
    int               help        = 0;
    struct poptOption with_help[] = {{"help", 'h', POPT_ARG_NONE, &help, 0, "show this help", NULL},
                                     {NULL, '\0', POPT_ARG_INCLUDE_TABLE, (void *)(uintptr_t)options, 0, NULL,
                                      NULL}, /* popt's pointer is not const */
                                     POPT_TABLEEND};
    char              name[80];
    /* popt looks for aliases under this name and shows it in the usage line. */
    snprintf(name, sizeof name, "soothe %s", command->name);
    const char *own_argv0 = argv[0];
    argv[0]               = name;
    *context              = poptGetContext(name, argc, argv, with_help, 0);
    int code              = -1;
    if (!*context) {
        fputs("soothe: out of memory\n", stderr);
        code = SOOTHE__EXIT_FAILED;
    } else {
        poptSetOtherOptionHelp(*context, "[OPTION...]");
        const int result = poptGetNextOpt(*context); /* all options store into variables, so there is one call */
        if (help) {
            print_help(*context, command);
            code = soothe__finish_stdout(SOOTHE__EXIT_DONE);
        } else if (result < -1) {
            code = soothe__print_misuse(command->name, "%s: %s", poptBadOption(*context, POPT_BADOPTION_NOALIAS),
                                        poptStrerror(result));
        }
    }
    argv[0] = own_argv0;
    return code;
}

void soothe__free_texts(char *const *texts, size_t n) {
    for (size_t i = 0; i < n; i++)
        free(texts[i]);
}

void soothe__free_list(char **list) {
    for (char **text = list; text && *text; text++)
        free(*text);
    free(list);
}

size_t soothe__list_length(char *const *list) {
    size_t n = 0;
    while (list && list[n])
        n++;
    return n;
}

int soothe__print_failure(const struct soothe_error *err) {
    fprintf(stderr, "soothe: %s\n", err->message);
    return SOOTHE__EXIT_FAILED;
}

int soothe__print_misuse(const char *command, const char *format, ...) {
    va_list args;
    va_start(args, format);
    fputs("soothe: ", stderr);
    vfprintf(stderr, format, args);
    fprintf(stderr, " (soothe %s --help shows an example)\n", command);
    va_end(args);
    return SOOTHE__EXIT_MISUSE;
}

int soothe__finish_stdout(int exit_code) {
    errno = 0;
    if (fflush(stdout) == 0 && !ferror(stdout))
        return exit_code;
    if (errno == EPIPE)
        return exit_code;
    fprintf(stderr, "soothe: cannot write the result: %s\n", strerror(errno ? errno : EIO));
    clearerr(stdout); /* told once, though both command and main ask */
    return exit_code ? exit_code : SOOTHE__EXIT_FAILED;
}
