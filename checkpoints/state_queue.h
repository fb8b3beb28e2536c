/* One thread that reads and writes records of a state file, in the order asked, beside what computes. */
#ifndef CHECKPOINTS_STATE_QUEUE_H
#define CHECKPOINTS_STATE_QUEUE_H

#include "checkpoints/state_file.h"

typedef struct StateQueue StateQueue;

/* While anything asked for is not done the file is the thread's. */
StateQueue *state_queue_open(StateFile *f, Status *st);
/* Ends after what was asked for. */
void state_queue_close(StateQueue *q);

/* state_file_read, state_file_write: memory and planes are the thread's until the returned job is done. */
int64_t state_queue_read(StateQueue *q, int record, int plane, void *out);
int64_t state_queue_write(StateQueue *q, int record, const void *const planes[STATE_PLANES]);
/* Waits for a job (0: none), and so for all before it. False, with the sentence, from the first that failed on: none after that
 * one is done. */
bool state_queue_wait(StateQueue *q, int64_t job, Status *st);
/* Waits for all. */
bool state_queue_drain(StateQueue *q, Status *st);
double state_queue_waited(const StateQueue *q); /* seconds in these two */

#endif
