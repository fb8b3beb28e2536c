/* The progress line: plain lines in a file, one rewritten line on a terminal that fits its width. */
#include "tests/unit/unit.h"

#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "recipes/model/machine.h"
#include "recipes/run/progress.h"
#include "tests/unit/scratch.h"

static void times(void **state)
{
    (void)state;
    char out[24];
    assert_string_equal(progress_time(0, out), "0:00");
    assert_string_equal(progress_time(65.4, out), "1:05");
    assert_string_equal(progress_time(3600 * 2 + 3 * 60 + 4, out), "2:03:04");
    assert_string_equal(progress_time(NAN, out), "?");
    assert_string_equal(progress_time(-1, out), "?");
}

static void in_a_file(void **state)
{
    (void)state;
    FILE *f = fopen(scratch_path("log"), "w");
    Progress *p = progress_new(f, false);
    progress_stage(p, "zero", 0, 200);
    for (int i = 1; i <= 200; i++) progress_step(p, &(ProgressStep){i, NAN, 0.5, 0.25, 12345});
    progress_note(p, "warning: %s", "all-truncated");
    progress_stage_end(p);
    progress_stage_end(p);
    progress_free(p);
    fclose(f);
    size_t n;
    char *text = scratch_read(scratch_path("log"), &n);
    assert_string_equal(text, "warning: all-truncated\n"
                              "zero          200/200  reward 0.500  pass@1 25.0%  12k tok/s  0:00\n");
    free(text);
}

static void quiet(void **state)
{
    (void)state;
    FILE *f = fopen(scratch_path("quiet"), "w");
    Progress *p = progress_new(f, true);
    progress_stage(p, "zero", 0, 200);
    progress_step(p, &(ProgressStep){1, NAN, NAN, NAN, NAN});
    progress_stage_end(p);
    progress_free(p);
    assert_int_equal(ftell(f), 0);
    fclose(f);
}

/* Everything a terminal of that width receives from a stage of three steps with a note in between. */
static void terminal_output(int width, char *out, size_t size)
{
    int master = posix_openpt(O_RDWR | O_NOCTTY);
    if (master < 0 || grantpt(master) || unlockpt(master)) skip();
    FILE *f = fopen(ptsname(master), "w");
    struct winsize w = {24, (unsigned short)width, 0, 0};
    ioctl(master, TIOCSWINSZ, &w);
    Progress *p = progress_new(f, false);
    progress_stage(p, "rl_reason", 0, 150);
    double until = clock_seconds() + 0.25;
    for (int i = 1; clock_seconds() < until; i++)
        progress_step(p, &(ProgressStep){i < 149 ? i : 149, NAN, 1.234, 0.5, 25000});
    progress_note(p, "note");
    progress_stage_end(p);
    progress_free(p);
    fflush(f);
    size_t n = 0; /* a terminal hands over what was written piece by piece, and a moment later */
    for (struct pollfd ready = {master, POLLIN, 0}; n < size - 1 && poll(&ready, 1, 300) > 0;) {
        ssize_t got = read(master, out + n, size - 1 - n);
        if (got <= 0) break;
        n += (size_t)got;
    }
    out[n] = 0;
    fclose(f);
    close(master);
}

static void on_a_terminal(void **state)
{
    (void)state;
    setenv("TERM", "xterm", 1);
    static char text[65536];
    terminal_output(120, text, sizeof text);
    assert_non_null(strstr(text, "\r\033[Krl_reason     [########"));
    assert_non_null(strstr(text, "left"));
    assert_non_null(strstr(text, "\r\033[Knote\r\n"));
    terminal_output(40, text, sizeof text);
    assert_null(strstr(text, "[##"));
    for (char *line = strtok(text, "\r\n"); line; line = strtok(NULL, "\r\n")) {
        size_t n = strlen(line);
        bool drawn = !strncmp(line, "\033[Krl", 5);
        if (drawn && n > 3 + 39 && !strstr(line, "0:00")) fail_msg("%zu characters: %s", n - 3, line);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(times), cmocka_unit_test(in_a_file), cmocka_unit_test(quiet),
                                       cmocka_unit_test(on_a_terminal)};
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
