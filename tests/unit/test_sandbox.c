/* The sandbox of code rewards: every escape that its pages name is tried, and the verdicts of tests. Skipped by name
 * where there is no sandbox. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <netinet/in.h>
#include <arpa/inet.h>
#include <unistd.h>

#include "data/dataset_row.h"
#include "data/sandbox/code_tests.h"
#include "tests/unit/unit.h"

static const char python[] = "python3 -I -S -B";

static bool ready(void)
{
    Status st = {0};
    if (sandbox_ready(&st) && sandbox_has(python)) return true;
    print_message("%s\n", st.text);
    return false;
}

static SandboxResult run(const char *program, const char *input, SandboxLimits limits)
{
    Status st = {0};
    SandboxResult r;
    SandboxJob job = {python, program, input, limits};
    if (!sandbox_run(&job, 1, &r, &st)) fail_msg("%s", st.text);
    return r;
}

/* What a program says, and that it ended by itself. */
static void expect_says(const char *program, const char *expected)
{
    SandboxResult r = run(program, "", sandbox_limits());
    if (r.end != SANDBOX_ENDED || strcmp(r.output, expected) != 0)
        fail_msg("end %d, code %d, said \"%s\", wrote \"%s\" instead of \"%s\"", r.end, r.code, r.said, r.output,
                 expected);
    sandbox_results_free(&r, 1);
}

static void expect_end(const char *program, SandboxLimits limits, SandboxEnd end)
{
    SandboxResult r = run(program, "", limits);
    if (r.end != end) fail_msg("end %d instead of %d: code %d, said \"%s\"", r.end, end, r.code, r.said);
    sandbox_results_free(&r, 1);
}

static void test_runs(void **state)
{
    (void)state;
    if (!ready()) skip();
    SandboxResult r =
        run("import sys\nprint(sum(int(x) for x in sys.stdin))\nsys.exit(3)", "1\n2\n39\n", sandbox_limits());
    assert_int_equal(r.end, SANDBOX_ENDED);
    assert_int_equal(r.code, 3);
    assert_string_equal(r.output, "42\n");
    sandbox_results_free(&r, 1);
    r = run("print(1/0)", "", sandbox_limits());
    assert_int_equal(r.code, 1);
    assert_string_equal(r.said, "ZeroDivisionError: division by zero");
    sandbox_results_free(&r, 1);
}

/* Answers come back in the order of the jobs, however many run at once. */
static void test_pool(void **state)
{
    (void)state;
    if (!ready()) skip();
    enum { JOBS = 12 };
    char inputs[JOBS][16], expected[32];
    SandboxJob jobs[JOBS];
    SandboxResult out[JOBS];
    Status st = {0};
    for (int i = 0; i < JOBS; i++) {
        snprintf(inputs[i], sizeof inputs[i], "%d", i);
        jobs[i] = (SandboxJob){python, i % 3 == 0 ? "import time\ntime.sleep(.1)\nprint(input())" : "print(input())",
                               inputs[i], sandbox_limits()};
    }
    assert_true(sandbox_run(jobs, JOBS, out, &st));
    for (int i = 0; i < JOBS; i++) {
        snprintf(expected, sizeof expected, "%d\n", i);
        assert_string_equal(out[i].output, expected);
    }
    sandbox_results_free(out, JOBS);
}

static void test_fork_bomb(void **state)
{
    (void)state;
    if (!ready()) skip();
    expect_says("import os\n"
                "n = 0\n"
                "try:\n"
                "    while n < 1000:\n"
                "        if os.fork() == 0:\n"
                "            while True: pass\n"
                "        n += 1\n"
                "except OSError: pass\n"
                "print(n < 16)\n",
                "True\n");
}

/* What never ends is ended by the clock: asleep, deaf to signals, without output, as a crowd. */
static void test_endless(void **state)
{
    (void)state;
    if (!ready()) skip();
    static const char *const programs[] = {
        "import signal, time\n[signal.signal(s, signal.SIG_IGN) for s in (1, 2, 15)]\ntime.sleep(1000)",
        "import os, time\nos.close(0); os.close(1); os.close(2)\ntime.sleep(1000)",
        "import os, time\nwhile True:\n    try: os.fork(); time.sleep(.01)\n    except OSError: pass",
    };
    enum { PROGRAMS = sizeof programs / sizeof *programs };
    SandboxJob jobs[PROGRAMS];
    SandboxResult out[PROGRAMS];
    Status st = {0};
    for (int i = 0; i < PROGRAMS; i++) jobs[i] = (SandboxJob){python, programs[i], "", sandbox_limits()};
    for (int i = 0; i < PROGRAMS; i++) jobs[i].limits.seconds = 0.1;
    assert_true(sandbox_run(jobs, PROGRAMS, out, &st));
    for (int i = 0; i < PROGRAMS; i++) assert_int_equal(out[i].end, SANDBOX_TIMEOUT);
    sandbox_results_free(out, PROGRAMS);
}

/* A child in a session of its own that outlives its parent is gone with the sandbox. */
static void test_daemon(void **state)
{
    (void)state;
    if (!ready()) skip();
    expect_says("import os\n"
                "if os.fork() == 0:\n"
                "    os.setsid()\n"
                "    while True: pass\n"
                "print('left')\n",
                "left\n");
}

static void test_endless_output(void **state)
{
    (void)state;
    if (!ready()) skip();
    expect_end("while True: print('x' * 1000)", sandbox_limits(), SANDBOX_FLOOD);
    expect_end("import sys\nwhile True: sys.stderr.write('x' * 1000)", sandbox_limits(), SANDBOX_FLOOD);
}

static void test_memory(void **state)
{
    (void)state;
    if (!ready()) skip();
    SandboxLimits l = sandbox_limits();
    l.memory = 256L << 20;
    SandboxResult r = run("x = bytearray(512 << 20)", "", l);
    assert_int_equal(r.code, 1);
    assert_string_equal(r.said, "MemoryError");
    sandbox_results_free(&r, 1);
}

static void test_signals(void **state)
{
    (void)state;
    if (!ready()) skip();
    char program[512];
    /* Its parent is the sandbox's first process, which no signal of its own namespace ends; ours is not to be seen. */
    snprintf(program, sizeof program,
             "import os, signal\n"
             "for s in (signal.SIGTERM, signal.SIGKILL, signal.SIGSTOP):\n"
             "    for pid in (os.getppid(), 1): os.kill(pid, s)\n"
             "try: os.kill(%d, 0)\n"
             "except ProcessLookupError: print('nobody')\n",
             getpid() < 100 ? 99999 : getpid());
    expect_says(program, "nobody\n");
    SandboxResult r = run("import os\nos.kill(-1, 9)", "", sandbox_limits());
    assert_int_equal(r.end, SANDBOX_ENDED);
    sandbox_results_free(&r, 1);
}

static void test_files(void **state)
{
    (void)state;
    if (!ready()) skip();
    expect_says(
        "import os\n"
        "print(sorted(set(os.listdir('/')) - {'bin', 'sbin', 'lib', 'lib32', 'lib64', 'libx32', 'usr', 'box', 'dev', "
        "'etc'}))\n"
        "print(sorted(os.listdir('/dev')), os.listdir('/box'), os.getcwd())\n"
        "for path in ('/etc/passwd', '/proc/self/environ', '/proc/1/mem', '/root', '/home', '/sys', '/tmp', '/run'):\n"
        "    if os.path.exists(path): print('there is', path)\n",
        "[]\n['null', 'random', 'urandom', 'zero'] ['program'] /box\n");
    expect_says("import os\n"
                "for path in ('/x', '/box/x', '/box/program', '/usr/x', '/dev/x', '/tmp/x', '/dev/shm/x'):\n"
                "    try: open(path, 'w').close(); print('wrote', path)\n"
                "    except OSError: pass\n"
                "try: os.write(0, b'x'); print('wrote its input')\n"
                "except OSError: pass\n",
                "");
}

static void test_environment(void **state)
{
    (void)state;
    if (!ready()) skip();
    setenv("R1_TEST_SECRET", "secret", 1);
    expect_says("import os, socket\n"
                "print(os.environ.get('R1_TEST_SECRET'), os.environ.get('HOME'), socket.gethostname())\n"
                "print(os.getuid(), os.getgid())\n",
                "None None sandbox\n65534 65534\n");
}

/* A port that this machine listens on is not there, and neither is any other address. */
static void test_network(void **state)
{
    (void)state;
    if (!ready()) skip();
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof here;
    assert_int_equal(bind(listener, (struct sockaddr *)&here, sizeof here), 0);
    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&here, &length), 0);
    char program[512];
    snprintf(program, sizeof program,
             "import socket\n"
             "for address in (('127.0.0.1', %d), ('192.0.2.1', 80)):\n"
             "    s = socket.socket(); s.settimeout(1)\n"
             "    try: s.connect(address); print('connected')\n"
             "    except OSError as e: print('no')\n",
             ntohs(here.sin_port));
    expect_says(program, "no\nno\n");
    close(listener);
}

/* Descriptors of this process are not its own. */
static void test_descriptors(void **state)
{
    (void)state;
    if (!ready()) skip();
    int fd = dup(2); /* without close-on-exec, as a library's might be */
    expect_says("import os\n"
                "def there(fd):\n"
                "    try: os.fstat(fd); return True\n"
                "    except OSError: return False\n"
                "print([fd for fd in range(3, 256) if there(fd)])\n",
                "[]\n");
    close(fd);
}

static void test_privileges(void **state)
{
    (void)state;
    if (!ready()) skip();
    expect_says("import ctypes, os\n"
                "c = ctypes.CDLL(None, use_errno=True)\n"
                "PR_GET_NO_NEW_PRIVS, CLONE_NEWUSER, CLONE_NEWNS = 39, 0x10000000, 0x20000\n"
                "print(c.prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0))\n"
                "print(c.unshare(CLONE_NEWUSER), c.unshare(CLONE_NEWNS))\n"
                "print(c.mount(b'none', b'/box', b'tmpfs', 0, None), c.chroot(b'/usr'))\n"
                "try: os.setuid(0); print('root')\n"
                "except OSError: print('no')\n",
                "1\n-1 -1\n-1 -1\nno\n");
}

/* ---- Verdicts ---- */

static Json *row_of(const char *text)
{
    Status st = {0};
    Json *row = json_parse(text, strlen(text), "the row", &st);
    if (row == NULL || !code_tests_check(row, &st)) fail_msg("%s", st.text);
    return row;
}

static void expect_verdicts(const char *row_text, const char *program, const Reason *expected)
{
    Status st = {0};
    TestVerdict tests[8];
    Json *row = row_of(row_text);
    CodeTrial trial = {row, program, tests};
    if (!code_tests_run(&trial, 1, &st)) fail_msg("%s", st.text);
    int n = code_tests_count(row);
    Reason first = REASON_CORRECT;
    for (int i = 0; i < n; i++) {
        if (tests[i].reason != expected[i])
            fail_msg("test %d of %s: %s instead of %s (%s)", i + 1, program, reason_name(tests[i].reason),
                     reason_name(expected[i]), tests[i].said);
        assert_true(tests[i].microseconds > 0);
        if (first == REASON_CORRECT) first = expected[i];
    }
    Verdict v = code_tests_verdict(&trial);
    assert_int_equal(v.reason, first);
    assert_true(v.score == (first == REASON_CORRECT ? 1.0f : 0.0f));
    json_free(row);
}

static void test_pairs(void **state)
{
    (void)state;
    if (!ready()) skip();
    static const char doubles[] =
        "{\"tests\": [{\"stdin\": \"2\", \"stdout\": \"4\\n\"}, {\"input\": \"5\\n\", \"output\": \"10\"}, "
        "{\"stdin\": \"x\", \"stdout\": \"\"}], \"seconds\": 0.4}";
    expect_verdicts(doubles, "print(2*int(input()))",
                    (Reason[]){REASON_CORRECT, REASON_CORRECT, REASON_PROGRAM_FAILED});
    expect_verdicts(doubles, "s=input()\nif s!='x': print(int(s)**2, ' ')",
                    (Reason[]){REASON_CORRECT, REASON_TEST_FAILED, REASON_CORRECT});
    expect_verdicts(doubles, "s=input()\nwhile s=='5': pass\nwhile s=='x': print(s)\nprint(4)",
                    (Reason[]){REASON_CORRECT, REASON_TIME, REASON_OUTPUT});
    expect_verdicts("{\"input_output\": \"{\\\"inputs\\\": [\\\"1 2\\\"], \\\"outputs\\\": [\\\"2\\\\n\\\\n1\\\"]}\"}",
                    "a, b = input().split()\nprint(b + '  ')\nprint()\nprint(a)\nprint()", (Reason[]){REASON_CORRECT});
    expect_verdicts("{\"tests\": [{\"stdin\": \"a\\n\", \"stdout\": \"A\"}], \"interpreter\": \"sh\"}",
                    "read x; echo $x | tr a-z A-Z", (Reason[]){REASON_CORRECT});
}

/* Asserts count when they are reached: leaving before them, or catching them, is not passing. */
static void test_asserts(void **state)
{
    (void)state;
    if (!ready()) skip();
    static const char cube[] =
        "{\"test_list\": [\"assert cube(2) == 8\", \"assert cube(3) == 27\"], \"test_setup_code\": \"import math\"}";
    expect_verdicts(cube, "def cube(x): return math.prod([x]*3)", (Reason[]){REASON_CORRECT, REASON_CORRECT});
    expect_verdicts(cube, "def cube(x): return 4*x", (Reason[]){REASON_CORRECT, REASON_TEST_FAILED});
    expect_verdicts(cube, "import sys\nsys.exit(0)", (Reason[]){REASON_TEST_FAILED, REASON_TEST_FAILED});
    expect_verdicts(cube, "import os\nos._exit(0)", (Reason[]){REASON_TEST_FAILED, REASON_TEST_FAILED});
    expect_verdicts(cube, "def cube(x): raise ValueError", (Reason[]){REASON_PROGRAM_FAILED, REASON_PROGRAM_FAILED});
    expect_verdicts(cube, "def cube(x) return x", (Reason[]){REASON_PROGRAM_FAILED, REASON_PROGRAM_FAILED});
}

static void test_programs(void **state)
{
    (void)state;
    static const struct {
        const char *completion, *program;
    } cases[] = {
        {"<think>no</think><answer>print(1)</answer>", "print(1)"},
        {"<think>```\nno\n```</think><answer>see\n```python\nprint(1)\n```\n</answer>", "print(1)\n"},
        {"Try\n```py\na\n```\nbetter:\n```python\nb\n```\nDone.", "b\n"},
        {"<think>x</think>\n```\nb #### 3\n```", "b #### 3\n"},
        {"print(1)", NULL},
        {"```python\nprint(1)", NULL},
        {"<think>```\nno\n```", NULL},
        {"<think>a</think><answer>print(1)", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *program = code_program(cases[i].completion);
        if (cases[i].program == NULL) assert_null(program);
        else assert_string_equal(program, cases[i].program);
        free(program);
    }
}

static void test_rows(void **state)
{
    (void)state;
    static const struct {
        const char *row, *fault;
    } cases[] = {
        {"{\"verifier\": \"tests\"}", "needs \"tests\""},
        {"{\"tests\": []}", "is empty"},
        {"{\"tests\": [3]}", "test 1 is neither"},
        {"{\"tests\": [{\"stdin\": \"\"}]}", "must be strings"},
        {"{\"tests\": \"[\"}", "tests"},
        {"{\"tests\": {\"inputs\": [\"\"], \"outputs\": []}}", "equal length"},
        {"{\"tests\": [\"assert 1\"], \"interpreter\": \"sh\"}", "Python's"},
        {"{\"tests\": [{\"stdout\": \"\"}], \"interpreter\": \"no-such-thing\"}", "is not there"},
        {"{\"tests\": [{\"stdout\": \"\"}], \"interpreter\": \"/tmp/x\"}", "is not there"},
        {"{\"tests\": [{\"stdout\": \"\"}], \"interpreter\": \" \"}", "1 to 16 words"},
        {"{\"tests\": [{\"stdout\": \"\"}], \"interpreter\": \"sh\", \"seconds\": 0}", "\"seconds\" must be"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Status st = {0};
        Json *row = json_parse(cases[i].row, strlen(cases[i].row), "the row", &st);
        assert_non_null(row);
        assert_false(code_tests_check(row, &st));
        if (!strstr(st.text, cases[i].fault)) fail_msg("%s: \"%s\"", cases[i].row, st.text);
        json_free(row);
    }
}

/* The pool is what judges completions: tests beside other verifiers, in order. */
static void test_judged(void **state)
{
    (void)state;
    if (!ready()) skip();
    Status st = {0};
    Task task = {.name = "file", .verify = row_verify};
    Json *tests = row_of("{\"tests\": [{\"stdin\": \"2\", \"stdout\": \"4\"}]}");
    Json *plain = json_new_object();
    Problem code = {.task = &task, .verifier = VERIFIER_TESTS, .row = tests, .prompt = "p", .answer = ""};
    Problem number = {.task = &task, .verifier = VERIFIER_INTEGER, .row = plain, .prompt = "p", .answer = "4"};
    JudgedText list[] = {
        {.problem = &code, .completion = "<answer>print(2*int(input()))</answer>"},
        {.problem = &number, .completion = "<answer>4</answer>"},
        {.problem = &code, .completion = "<answer>print(5)</answer>"},
        {.problem = &code, .completion = "4"},
        {.problem = &code, .completion = "<answer>print(4)</answer>", .truncated = true},
    };
    static const Reason expected[] = {REASON_CORRECT, REASON_CORRECT, REASON_TEST_FAILED, REASON_NO_PROGRAM,
                                      REASON_TRUNCATED};
    assert_true(task_verify_all(list, 5, &st));
    for (int i = 0; i < 5; i++) {
        assert_int_equal(list[i].verdict.reason, expected[i]);
        assert_true((list[i].tests != NULL) == (i == 0 || i == 2));
        json_free(list[i].tests);
    }
    json_free(tests);
    json_free(plain);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_runs),        cmocka_unit_test(test_pool),    cmocka_unit_test(test_fork_bomb),
        cmocka_unit_test(test_endless),     cmocka_unit_test(test_daemon),  cmocka_unit_test(test_endless_output),
        cmocka_unit_test(test_memory),      cmocka_unit_test(test_signals), cmocka_unit_test(test_files),
        cmocka_unit_test(test_environment), cmocka_unit_test(test_network), cmocka_unit_test(test_descriptors),
        cmocka_unit_test(test_privileges),  cmocka_unit_test(test_pairs),   cmocka_unit_test(test_asserts),
        cmocka_unit_test(test_programs),    cmocka_unit_test(test_rows),    cmocka_unit_test(test_judged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
