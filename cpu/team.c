/* Compares team sizes by what they get done, and keeps the faster. */
#include "cpu/team.h"

#include <math.h>

#include "core/base/clock.h"

/* Ops of a window at the least, and its seconds: several of the kernel's time slices (about 3 ms). */
enum { OPS_OF_WINDOW = 64 };
static const double WINDOW = 0.02;

/* Ops that last longer than this gain from every processor's share, however small: a part of the work is taken by whoever is
 * free (seconds an op). */
static const double LONG_OP = 1e-3;

/* A trial ends when the mean of the pairs is this many standard errors from 0, or without a winner. */
enum { FEWEST_PAIRS = 3, MOST_PAIRS = 10 };
static const double SURE = 2.5;

/* Seconds until the next trial: doubled each time that nothing changed, so that trying costs less than 1 % of a long run. */
static const double FIRST_PAUSE = 0.2, LONGEST_PAUSE = 6.4;

static void begin_window(Team *t, double now, int size)
{
    t->size = size;
    t->calls = OPS_OF_WINDOW;
    t->work = 0;
    t->since = now;
}

void team_open(Team *t, int threads, bool adapting)
{
    double now = clock_seconds();
    *t = (Team){.size = threads, .most = adapting ? threads : 1, .pause = FIRST_PAUSE, .next = now + FIRST_PAUSE / 2};
    begin_window(t, now, threads);
}

/* Half of the team, or twice: in turn, where both are possible. */
static int tried_size(Team *t)
{
    t->upward = t->size == 1 || (t->size < t->most && !t->upward);
    int twice = 2 * t->size < t->most ? 2 * t->size : t->most;
    return t->upward ? twice : t->size / 2;
}

static void begin_trial(Team *t, double now)
{
    t->usual = t->size;
    t->other = tried_size(t);
    t->pairs = 0;
    t->sum = t->squares = 0;
    begin_window(t, now, t->usual);
}

static void end_trial(Team *t, double now, int size)
{
    bool changed = size != t->usual;
    double longer = 2 * t->pause < LONGEST_PAUSE ? 2 * t->pause : LONGEST_PAUSE;
    t->pause = changed ? FIRST_PAUSE : longer;
    t->next = now + t->pause;
    t->other = 0;
    begin_window(t, now, size);
}

/* The second window of a pair ended. */
static void judge_pair(Team *t, double now, double rate)
{
    double d = log(rate / t->usual_rate);
    t->pairs++;
    t->sum += d;
    t->squares += d * d;
    double mean = t->sum / t->pairs, spread = t->squares / t->pairs - mean * mean;
    double error = t->pairs > 1 ? sqrt((spread > 0 ? spread : 0) / (t->pairs - 1)) : 0;
    bool sure = t->pairs >= FEWEST_PAIRS && fabs(mean) > SURE * error;
    if (sure || t->pairs == MOST_PAIRS) end_trial(t, now, sure && mean > 0 ? t->other : t->usual);
    else begin_window(t, now, t->usual);
}

void team_look(Team *t, double now)
{
    double seconds = now - t->since;
    if (seconds < WINDOW) {
        t->calls = OPS_OF_WINDOW / 4;
        return;
    }
    double rate = t->work / seconds;
    if (!t->other) {
        bool short_ops = seconds < LONG_OP * OPS_OF_WINDOW;
        if (now >= t->next && (short_ops || t->size < t->most)) begin_trial(t, now);
        else begin_window(t, now, t->size);
    } else if (t->size == t->usual) {
        t->usual_rate = rate;
        begin_window(t, now, t->other);
    } else {
        judge_pair(t, now, rate);
    }
}

void team_tick(Team *t)
{
    team_look(t, clock_seconds());
}
