/* A program that scores completions: started once with /bin/sh -c, fed one JSON object a line
 *     {"id": 17, "prompt": .., "completion": .., "row": {..}}
 * and answering one a line, each written out at once (flushed):
 *     {"score": number, true or false}, and as it likes "reason": "...", "id": 17.
 * Replies with an id may come in any order; those without belong to the oldest request that is still open. Lines that are no JSON
 * object are skipped. It never hangs or kills us: what goes wrong becomes the reason of the reply.
 *
 * Of its standard error the first EXTERNAL_STDERR bytes are passed through; the last lines of all are kept. */
#ifndef DATA_EXTERNAL_H
#define DATA_EXTERNAL_H

#include <stdbool.h>

enum { EXTERNAL_REASON = 96, EXTERNAL_RESTARTS = 3, EXTERNAL_STDERR = 65536, EXTERNAL_TAIL = 2048 };

typedef struct ExternalReply {
    float score; /* 0 when failed; not finite when the number is beyond a float */
    bool failed; /* reason then begins with "timeout", "crashed" or "bad reply" */
    char reason[EXTERNAL_REASON];
} ExternalReply;

typedef struct External External;

/* Nothing is started before the first batch. startup_seconds: until the first reply of a process, in place of the time-out. */
External *external_open(const char *command, double timeout_seconds, double startup_seconds);
/* Closes the program's input, gives it a moment to end, then kills its process group. */
void external_close(External *e);

/* Scores a batch of n requests (whole lines without the newline and the id), within the time-out:
 *   timeout    everything unanswered when the time is up; the program is killed;
 *   crashed    the request at whose turn the program ended; it is started again for the rest, EXTERNAL_RESTARTS times a
 *              batch, then the rest is "crashed" too;
 *   bad reply  a JSON object without a usable "score", or replies without ids that are more than the requests. */
void external_score(External *e, char *const *lines, int n, ExternalReply *out);

/* Whether it ever gave a score. */
bool external_answered(const External *e);
/* The last lines of its standard error ("" when it said nothing), and how many bytes were not passed through. */
const char *external_said(const External *e, long *cut);
/* The first line that was no JSON object, once; NULL. */
const char *external_skipped(External *e);

#endif
