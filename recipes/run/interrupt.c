/* Ctrl-C: the first signal sets a flag, a second one kills. */
#include "recipes/run/interrupt.h"

#include <signal.h>
#include <time.h>

volatile int interrupted;

/* `timeout` and other parents pass a terminal's signal on, so that one Ctrl-C may come twice. */
static const double SAME_KEY_S = 0.5;
static struct timespec first;

static void on_signal(int number)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (!interrupted) {
        interrupted = 1;
        first = now;
    } else if ((double)(now.tv_sec - first.tv_sec) + 1e-9 * (double)(now.tv_nsec - first.tv_nsec) > SAME_KEY_S) {
        signal(number, SIG_DFL);
        raise(number);
    }
}

/* A write beyond `ulimit -f` fails with an error of its own then. A handler and not SIG_IGN, which children would inherit. */
static void on_limit(int number)
{
    (void)number;
}

void interrupt_catch(void)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = (int)SA_RESTART};
    sigemptyset(&action.sa_mask);
    sigaddset(&action.sa_mask, SIGINT);
    sigaddset(&action.sa_mask, SIGTERM);
    sigaction(SIGINT, &action, 0);
    sigaction(SIGTERM, &action, 0);
    action.sa_handler = on_limit;
    sigaction(SIGXFSZ, &action, 0);
}

void interrupt_release(void)
{
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
}
