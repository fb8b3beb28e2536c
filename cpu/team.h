/* How many threads an op runs on: all of the backend's, or fewer while other processes want the processors.
 *
 * A team waits at its barrier for a thread that is not running, and a step has hundreds of barriers: beside one busy process on
 * two processors two threads can be twice as slow as one. Whether they are cannot be seen from outside, so it is tried: now and
 * then windows of about 20 ms run in turn with the team as it is and with half or twice of it, and the size that did more
 * multiply-adds a second stays. Bits do not depend on the number of threads, so it may change between two ops. */
#ifndef CPU_TEAM_H
#define CPU_TEAM_H

#include <stdbool.h>

typedef struct Team {
    int size, most; /* threads of an op now; of the backend. most 1: never looked at */
    int calls;      /* ops until the clock is read */
    double work;    /* multiply-adds since the window began */
    double since;   /* when it began, seconds */
    /* The trial that is going on; other 0: none. */
    int other, usual;  /* sizes compared: the tried one and the one that was used before */
    double usual_rate; /* of the pair's first window, multiply-adds a second */
    int pairs;
    double sum, squares; /* of log(rate of other / rate of usual), a pair each */
    double next;         /* when a trial is begun, seconds */
    double pause;        /* how long the winner stays unchallenged */
    bool upward;         /* the last trial was of a larger team */
} Team;

/* With `threads` threads; not adapting: always all of them. */
void team_open(Team *t, int threads, bool adapting);

/* The end of a window at time `now` (seconds, any origin): decides what runs next. Called by team_size; by tests with a clock of
 * their own. */
void team_look(Team *t, double now);

/* Reads the clock and looks. */
void team_tick(Team *t);

/* Threads for an op of `work` multiply-adds. Called by the one thread that starts ops. */
static inline int team_size(Team *t, double work)
{
    if (t->most > 1) {
        t->work += work;
        if (--t->calls <= 0) team_tick(t);
    }
    return t->size;
}

#endif
