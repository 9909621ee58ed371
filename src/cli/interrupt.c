/* SPDX-License-Identifier: Apache-2.0
 * Ctrl-C ends a generation after the token under way. */
#define _XOPEN_SOURCE 700
#include "cli/speak.h"

static volatile sig_atomic_t interrupted;

static void on_interrupt(int signal_number) {
    (void)signal_number;
    interrupted = 1;
}

volatile sig_atomic_t *soothe__interrupt_flag(void) {
    struct sigaction action = {.sa_handler = on_interrupt, .sa_flags = (int)(SA_RESETHAND | SA_RESTART)};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    return &interrupted;
}
