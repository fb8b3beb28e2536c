/* One block at a time: its threads on fibers of one thread of the system, so that every run is the same again. A thread that
 * never waits runs on its predecessor's stack and costs no switch. */
#include <cstdio>
#include <vector>

#include "gpu/emu/fiber.h"
#include "gpu/emu/internal.h"

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace emu
{

const char *kernel_name;
const Checker *checker;

enum State { UNSTARTED, READY, AT_BARRIER, AT_WARP, DONE };

struct Copy {
    void *to;
    const void *from;
};

struct Thread {
    uint3 index;
    unsigned number;
    State state;
    Fiber *fiber;
    Site site;
    unsigned mask; /* of the meeting it waits at */
    Meeting what;
    void *record;
    int value; /* brought to the barrier, then what comes out */
    std::vector<Copy> open;
    std::vector<std::vector<Copy>> groups;
};

struct Variable {
    const void *key;
    size_t at, bytes;
};

/* The meeting of a warp that is being gathered: the usual case of one at a time without a look at 32 lanes. */
struct Gathering {
    unsigned mask, here;
    Meeting what;
};

static std::vector<Thread> threads;
static unsigned count, warps, alive, waiting, warp_now;
static unsigned ready[32], living[32];
static Gathering gathering[32];
static Thread *now, *next_up;
static Fiber *host;
static void (*body)(void *);
static void *arguments;
static EmuSchedule schedule;
static bool stuck;

static char *shared;
static size_t shared_used, shared_bytes;
static std::vector<Variable> variables;

void schedule_set(EmuSchedule how)
{
    schedule = how;
}

static unsigned whole_warp(unsigned w)
{
    return w == warps - 1 && count % 32 ? (1u << count % 32) - 1 : ~0u;
}

static void not_ready(Thread *t)
{
    ready[t->number / 32] &= ~(1u << t->number % 32);
}

static void is_ready(Thread *t)
{
    t->state = READY;
    ready[t->number / 32] |= 1u << t->number % 32;
}

static Thread *pick_at_random()
{
    unsigned all = 0;
    for (unsigned w = 0; w < warps; w++) all += (unsigned)__builtin_popcount(ready[w]);
    if (!all) return nullptr;
    unsigned k = (unsigned)(random_next() % all), w = 0;
    for (unsigned here; k >= (here = (unsigned)__builtin_popcount(ready[w])); w++) k -= here;
    unsigned m = ready[w];
    while (k--) m &= m - 1;
    return &threads[w * 32 + (unsigned)__builtin_ctz(m)];
}

/* Stays in the warp while it can run. */
static Thread *pick()
{
    if (schedule == EMU_SEEDED) return pick_at_random();
    for (unsigned i = 0; i < warps; i++) {
        unsigned w = (schedule == EMU_REVERSE ? warp_now + warps - i : warp_now + i) % warps;
        if (unsigned m = ready[w]) {
            warp_now = w;
            return &threads[w * 32 + (unsigned)(schedule == EMU_REVERSE ? 31 - __builtin_clz(m) : __builtin_ctz(m))];
        }
    }
    return nullptr;
}

static void become(Thread *t)
{
    now = t;
    threadIdx = t->index;
    if (checker) checker->thread(t->number);
}

static void deadlock()
{
    stuck = true;
    report("deadlock: %u of %u threads wait at a barrier, nobody can go on", waiting, alive);
    int shown = 0;
    for (const Thread &t : threads)
        if (t.state != DONE && shown++ < 4)
            report("deadlock: thread %u waits at %s:%d", t.number, t.site.file, t.site.line);
}

static void run_threads();

/* Leaves this stack for t. */
static void go_on_with(Thread *t)
{
    not_ready(t);
    if (t->state == UNSTARTED) {
        next_up = t;
        t->fiber = fiber_take(run_threads);
        fiber_switch(t->fiber);
    } else {
        become(t);
        fiber_switch(t->fiber);
    }
}

/* The thread that runs has to wait; returns when it may go on. */
static void wait_here()
{
    Thread *me = now, *other = pick();
    if (other == me) return;
    if (other) {
        go_on_with(other);
    } else {
        deadlock();
        fiber_switch(host);
    }
    become(me);
}

static void open_barrier()
{
    int sum = 0;
    const Thread *first = nullptr;
    bool differ = false;
    for (const Thread &t : threads) {
        if (t.state != AT_BARRIER) continue;
        sum += t.value;
        if (!first) first = &t;
        differ = differ || t.site.line != first->site.line;
    }
    for (Thread &t : threads) {
        if (t.state != AT_BARRIER) continue;
        t.value = sum;
        is_ready(&t);
    }
    if (differ)
        report("divergent barrier: threads met at different ones, one at %s:%d", first->site.file, first->site.line);
    waiting = 0;
    if (checker) checker->barrier();
}

int block_meet(Site site, int value)
{
    Thread *t = now;
    t->site = site;
    t->value = value;
    t->state = AT_BARRIER;
    if (++waiting == alive) {
        open_barrier();
        if (schedule == EMU_SEEDED) wait_here();
    } else {
        wait_here();
    }
    if (checker) checker->thread(t->number);
    t->state = READY;
    not_ready(t);
    return t->value;
}

/* Lanes of t's mask that wait at the same meeting. */
static unsigned lanes_here(const Thread *t, unsigned need)
{
    unsigned w = t->number / 32, bit = 1u << t->number % 32;
    Gathering &g = gathering[w];
    if (!g.here) g.mask = t->mask, g.what = t->what;
    if (g.mask == t->mask && g.what == t->what) return g.here |= bit;
    unsigned here = 0;
    for (unsigned m = need; m; m &= m - 1) {
        const Thread &o = threads[w * 32 + (unsigned)__builtin_ctz(m)];
        if (o.state == AT_WARP && o.mask == t->mask && o.what == t->what) here |= 1u << o.number % 32;
    }
    return here;
}

static void finish_meeting(Thread *t, unsigned need, Finish *finish)
{
    unsigned w = t->number / 32;
    Gathering &g = gathering[w];
    if (g.mask == t->mask && g.what == t->what) g.here = 0;
    void *records[32];
    bool differ = false;
    for (unsigned m = need; m; m &= m - 1) {
        Thread &o = threads[w * 32 + (unsigned)__builtin_ctz(m)];
        records[o.number % 32] = o.record;
        differ = differ || o.site.line != t->site.line;
        if (&o != t) is_ready(&o);
    }
    if (differ) report("lanes of one mask meet at different places, one at %s:%d", t->site.file, t->site.line);
    finish(records, need);
    if (t->what == SYNC && checker) checker->warp_sync(w, need);
}

void warp_meet(unsigned mask, Meeting what, Site site, void *record, Finish *finish)
{
    Thread *t = now;
    unsigned w = t->number / 32, bit = 1u << t->number % 32;
    if (!(mask & bit)) {
        report("%s:%d: lane %u is not in its own mask %08x", site.file, site.line, t->number % 32, mask);
        mask |= bit;
    }
    if (mask & whole_warp(w) & ~living[w])
        report("%s:%d: mask %08x names lanes that have left (%08x are here)", site.file, site.line, mask, living[w]);
    unsigned need = mask & living[w];
    t->mask = mask, t->what = what, t->site = site, t->record = record, t->state = AT_WARP;
    if (lanes_here(t, need) == need) finish_meeting(t, need, finish);
    else wait_here();
    t->state = READY;
    not_ready(t);
}

unsigned lane()
{
    return now->number % 32;
}

void lane_fault(const char *what, Site site)
{
    report("%s (%s:%d)", what, site.file, site.line);
}

static void leave(Thread *t)
{
    bool left = !t->open.empty();
    for (const auto &g : t->groups) left = left || !g.empty();
    if (left) report("a thread leaves while copies of its own are under way (cp.async is not waited for)");
    t->open.clear();
    t->groups.clear();
    t->state = DONE;
    alive--;
    living[t->number / 32] &= ~(1u << t->number % 32);
    if (alive && waiting == alive) open_barrier();
}

/* A stack: runs threads that have not started until one that waits elsewhere has to go on. */
static void run_threads()
{
    fiber_started();
    for (;;) {
        Thread *t = next_up;
        for (;;) {
            t->state = READY;
            t->fiber = fiber_here();
            become(t);
            body(arguments);
            leave(t);
            t = pick();
            if (!t || t->state != UNSTARTED) break;
            not_ready(t);
        }
        fiber_give_back(fiber_here());
        if (t) {
            not_ready(t);
            become(t);
            fiber_switch(t->fiber);
        } else {
            if (alive) deadlock();
            fiber_switch(host);
        }
    }
}

void *shared_static(const void *key, size_t bytes, size_t align, const char *name)
{
    for (const Variable &v : variables)
        if (v.key == key) return shared + v.at;
    if (align < 16) align = 16;
    size_t gap = checker ? 64 : 0, at = (shared_used + gap + align - 1) & ~(align - 1);
    shared_used = at + bytes;
    variables.push_back(Variable{key, at, bytes});
    if (shared_used - gap * variables.size() > SHARED_MOST || shared_used > SHARED_ROOM)
        report("shared memory: %s makes it %zu bytes, a block has %zu", name, shared_used, (size_t)SHARED_MOST);
    return shared + at;
}

void *shared_dynamic()
{
    return shared;
}

bool shared_has(const void *p, size_t bytes)
{
    size_t at = (size_t)((const char *)p - shared);
    if (at + bytes <= shared_bytes) return true;
    for (const Variable &v : variables)
        if (at >= v.at && at + bytes <= v.at + v.bytes) return true;
    return false;
}

void shared_range(const char **low, size_t *bytes)
{
    *low = shared;
    *bytes = SHARED_ROOM;
}

void copy_async(void *to, const void *from, Site site)
{
    if (((uintptr_t)to | (uintptr_t)from) & 15u)
        report("cp.async: not at a multiple of 16 bytes (%s:%d)", site.file, site.line);
    if (checker) checker->access(to, 16, true); /* it may be written from here on */
    now->open.push_back(Copy{to, from});
}

void copy_commit()
{
    now->groups.push_back(std::move(now->open));
    now->open.clear();
}

void copy_wait(int left)
{
    while (now->groups.size() > (size_t)left) {
        for (const Copy &c : now->groups.front()) {
            if (checker && c.from) checker->access(c.from, 16, false);
            if (checker) checker->access(c.to, 16, true);
            if (c.from) memcpy(c.to, c.from, 16);
            else memset(c.to, 0, 16);
        }
        now->groups.erase(now->groups.begin());
    }
}

static void block_run(unsigned number, size_t dynamic)
{
    memset(shared, 0xff, variables.empty() ? SHARED_ROOM : shared_used); /* NaN: nobody may rely on it */
    shared_used = dynamic;
    variables.clear();
    for (unsigned w = 0; w < warps; w++) ready[w] = living[w] = whole_warp(w), gathering[w].here = 0;
    for (Thread &t : threads) t.state = UNSTARTED, t.open.clear(), t.groups.clear();
    alive = count, waiting = 0, warp_now = schedule == EMU_REVERSE ? warps - 1 : 0;
    if (checker) checker->block(number);
    next_up = pick();
    go_on_with(next_up);
}

bool grid_run(const Grid &g)
{
    if (!shared) shared = (char *)aligned_alloc(4096, SHARED_ROOM);
    count = g.block.x * g.block.y * g.block.z, warps = (count + 31) / 32;
    threads.resize(count);
    for (unsigned i = 0; i < count; i++) {
        threads[i].number = i;
        threads[i].index = uint3{i % g.block.x, i / g.block.x % g.block.y, i / g.block.x / g.block.y};
    }
    gridDim = g.grid, blockDim = g.block;
    body = g.invoke, arguments = g.arguments.get(), kernel_name = g.name;
    shared_bytes = g.shared, shared_used = 0, stuck = false, host = fiber_here();
    variables.clear();
    if (checker) checker->launch(arguments, g.bytes);
    uint64_t blocks = (uint64_t)g.grid.x * g.grid.y * g.grid.z;
    for (uint64_t j = 0; j < blocks && !stuck; j++) {
        uint64_t i = schedule == EMU_REVERSE ? blocks - 1 - j : j;
        blockIdx =
            uint3{(unsigned)(i % g.grid.x), (unsigned)(i / g.grid.x % g.grid.y), (unsigned)(i / g.grid.x / g.grid.y)};
        block_run((unsigned)i, g.shared);
    }
    if (checker) checker->end();
    if (stuck) fiber_abandon();
    kernel_name = nullptr;
    return !stuck;
}

} // namespace emu
