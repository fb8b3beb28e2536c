/* Stacks and the switch between them: every CUDA thread that has to wait keeps its own. */
#ifndef GPU_EMU_FIBER_H
#define GPU_EMU_FIBER_H

#include <cstddef>

namespace emu
{

struct Fiber;

/* A stack that begins at entry(), which must never return. Given-back stacks go on where they left off: inside entry's
 * loop, behind its last fiber_switch. */
Fiber *fiber_take(void (*entry)());
void fiber_give_back(Fiber *f);

/* The stack that runs now; the program's own one before the first switch. */
Fiber *fiber_here();
/* Leaves this stack for another; comes back when somebody switches here. */
void fiber_switch(Fiber *to);
/* First thing on a new stack. */
void fiber_started();
/* Given-back stacks are forgotten: what runs on them can not go on (a deadlock left them). */
void fiber_abandon();

/* Where all stacks lie. */
void fiber_range(const char **low, size_t *bytes);

} // namespace emu
#endif
