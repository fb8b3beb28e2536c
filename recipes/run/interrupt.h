/* Ctrl-C: the first one asks the work to stop at its next good moment, a second one, half a second later
 * or more, kills. */
#ifndef RECIPES_INTERRUPT_H
#define RECIPES_INTERRUPT_H

/* Non-zero after SIGINT or SIGTERM; long work looks at it (the `cancel` of rollouts and runs). */
extern volatile int interrupted;

/* From now on the first signal sets `interrupted`. */
void interrupt_catch(void);
/* Signals end the process at once again (while it waits for a person). */
void interrupt_release(void);

#endif
