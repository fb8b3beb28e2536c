/* A program that scores completions: started once with /bin/sh -c, fed one JSON object a line
 *     {"prompt": .., "completion": .., "row": {..}}
 * and answering one a line, in the same order, each written out at once (flushed):
 *     {"score": number} or {"score": number, "reason": "..."}.
 * Its standard error is ours. It never hangs or kills us: what goes wrong becomes the reason of the reply. */
#ifndef DATA_EXTERNAL_H
#define DATA_EXTERNAL_H

#include <stdbool.h>

enum { EXTERNAL_REASON = 96, EXTERNAL_RESTARTS = 3 };

typedef struct ExternalReply {
    float score; /* 0 when failed */
    bool failed; /* reason is then "timeout", "crashed" or "bad reply" */
    char reason[EXTERNAL_REASON];
} ExternalReply;

typedef struct External External;

/* Nothing is started before the first batch. */
External *external_open(const char *command, double timeout_seconds);
/* Closes the program's input, gives it a moment to end, then kills its process group. */
void external_close(External *e);

/* Scores a batch of n requests (whole lines without the newline), within the time-out:
 *   timeout    everything unanswered when the time is up; the program is killed;
 *   crashed    the request at whose turn the program ended; it is started again for the rest, EXTERNAL_RESTARTS times a
 *              batch, then the rest is "crashed" too;
 *   bad reply  a JSON object without a finite "score"; or a line that is no object at all: then request and reply are
 *              out of step, and the program is started again as above. */
void external_score(External *e, char *const *lines, int n, ExternalReply *out);

#endif
