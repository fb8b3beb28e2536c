#include "gpu/emu/fiber.h"

#include <sys/mman.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#define WITH_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#include <sanitizer/common_interface_defs.h>
#define WITH_ASAN 1
#endif
#endif
#ifndef WITH_ASAN
#define WITH_ASAN 0
#endif
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace emu
{

/* A page that faults below each stack. COLOUR: tops at one distance from powers of two would share a few cache sets. */
static const size_t STACK = WITH_ASAN ? 256 << 10 : 64 << 10, GUARD = 4096, MOST = 8192, COLOUR = 192;

struct Fiber {
    void *sp;
    char *low;
    size_t size;
    void *shadow; /* of the address sanitizer */
    Fiber *next;
#if !defined(__x86_64__)
    ucontext_t context;
#endif
};

static char *stacks;
static size_t made;
static Fiber program, *here = &program, *spare;

#if defined(__x86_64__)
extern "C" __attribute__((visibility("hidden"))) void emu_stack_switch(void **save, void *to);
asm(R"(
    .text
    .globl emu_stack_switch
    .hidden emu_stack_switch
    .type emu_stack_switch, @function
emu_stack_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
    .size emu_stack_switch, . - emu_stack_switch
)");

static void prepare(Fiber *f, char *top, void (*entry)())
{
    void **sp = (void **)top;
    *--sp = nullptr; /* where entry would return to */
    *--sp = (void *)entry;
    for (int i = 0; i < 6; i++) *--sp = nullptr;
    f->sp = sp;
}

static void jump(Fiber *from, Fiber *to)
{
    emu_stack_switch(&from->sp, to->sp);
}
#else
static void prepare(Fiber *f, char *top, void (*entry)())
{
    getcontext(&f->context);
    f->context.uc_stack.ss_sp = f->low;
    f->context.uc_stack.ss_size = (size_t)(top - f->low);
    makecontext(&f->context, entry, 0);
}

static void jump(Fiber *from, Fiber *to)
{
    swapcontext(&from->context, &to->context);
}
#endif

Fiber *fiber_here()
{
    return here;
}

void fiber_switch(Fiber *to)
{
    Fiber *from = here;
    here = to;
#if WITH_ASAN
    __sanitizer_start_switch_fiber(&from->shadow, to->low, to->size);
#endif
    jump(from, to);
#if WITH_ASAN
    __sanitizer_finish_switch_fiber(from->shadow, nullptr, nullptr);
#endif
}

void fiber_started()
{
#if WITH_ASAN
    const void *low;
    size_t size;
    __sanitizer_finish_switch_fiber(nullptr, &low, &size);
    if (!program.low) program.low = (char *)low, program.size = size;
#endif
}

static void reserve()
{
    void *p = mmap(nullptr, MOST * (STACK + GUARD), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) {
        fprintf(stderr, "emulator: no addresses for the stacks of its threads\n");
        abort();
    }
    stacks = (char *)p;
}

Fiber *fiber_take(void (*entry)())
{
    if (Fiber *f = spare) {
        spare = f->next;
        return f;
    }
    if (!stacks) reserve();
    if (made == MOST) {
        fprintf(stderr, "emulator: more than %zu stacks; a kernel that deadlocks leaves its own behind\n", MOST);
        abort();
    }
    Fiber *f = new Fiber();
    f->low = stacks + made * (STACK + GUARD) + GUARD;
    f->size = STACK;
    if (mprotect(f->low, STACK, PROT_READ | PROT_WRITE) != 0) abort();
    char *top = f->low + STACK - made++ % 64 * COLOUR;
    prepare(f, (char *)((uintptr_t)top & ~(uintptr_t)63), entry);
    return f;
}

void fiber_give_back(Fiber *f)
{
    f->next = spare;
    spare = f;
}

void fiber_abandon()
{
    spare = nullptr;
}

void fiber_range(const char **low, size_t *bytes)
{
    if (!stacks) reserve();
    *low = stacks;
    *bytes = MOST * (STACK + GUARD);
}

} // namespace emu
