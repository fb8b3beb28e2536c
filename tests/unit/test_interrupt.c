/* Ctrl-C: one that comes twice at once is one, a later one kills. */
#include "tests/unit/unit.h"

#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "recipes/run/interrupt.h"

enum { REACHED_END = 7 };

/* Raises a signal twice, and a third time after a wait; how a process that does so ends (waitpid's status). */
static int end_of(int number, bool wait_and_again)
{
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (!child) {
        interrupt_catch();
        raise(number);
        if (!interrupted) _exit(1);
        raise(number);
        if (wait_and_again) {
            nanosleep(&(struct timespec){.tv_nsec = 700000000}, NULL);
            raise(number);
        }
        _exit(REACHED_END);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

static void twice_at_once(void **state)
{
    (void)state;
    const int numbers[] = {SIGINT, SIGTERM};
    for (int i = 0; i < 2; i++) {
        int status = end_of(numbers[i], false);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), REACHED_END);
    }
}

static void later_kills(void **state)
{
    (void)state;
    int status = end_of(SIGINT, true);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGINT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(twice_at_once),
        cmocka_unit_test(later_kills),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
