/* The checked build: kernels are compiled with -fsanitize=thread, but the functions that the compiler then calls at every access
 * are these, not those of its runtime. They find
 *   races: two accesses, one a write, that no barrier, warp sync or end of launch orders (shuffles and votes order nothing);
 *   borders: an access that is not wholly inside one allocation, one array of an arena, one variable in shared memory;
 *   shared memory that is read before it is written.
 * Time is a list of segments: what one thread does between two points where it is ordered with others. A cell for every two
 * bytes keeps the segment of the last write and of the last two readers. */
#include <cstdio>
#include <cstdlib>
#include <map>
#include <set>
#include <unordered_map>
#include <vector>

#include "gpu/emu/fiber.h"
#include "gpu/emu/internal.h"

extern "C" __attribute__((visibility("hidden"))) const char __ehdr_start,
    _end; /* of the linker: this object in memory */

namespace emu
{

enum : size_t { CELL = 2, PAGE = 1 << 16, PAGE_CELLS = PAGE / CELL, MOST_THREADS = 1024 };

struct Cell {
    uint32_t write, read, read_before; /* segments; 0: none in any launch that counts */
    bool written;                      /* since the memory came */
};

struct Segment {
    uint32_t block, barriers, step;
    uint32_t thread;
};

/* What a thread knows of its warp: lane l's first seen[l] steps happened before now. */
struct Clock {
    uint32_t segment, step, seen[32];
};

struct Home {
    size_t bytes;
    Region kind;
    bool has_arrays;
};

static std::map<uintptr_t, Home> homes;
static std::map<uintptr_t, size_t> arrays;
static uintptr_t inside_from, inside_to; /* of the last access that was found to be inside */
static bool foreign_allowed, running;
static std::unordered_map<uintptr_t, Cell *> pages;
static std::vector<Cell> shared_cells(SHARED_ROOM / CELL);
static size_t shared_touched;
static std::vector<Segment> segments;
static uint32_t first_segment = 1, segment_now, block_now, thread_now, barriers;
static Clock clocks[MOST_THREADS];
static std::set<std::pair<const void *, uint32_t>> said;

static void say(const char *what, const void *p, const void *pc, const Segment *other)
{
    if (!said.insert({pc, other ? other->thread / 32 : ~0u}).second) return;
    size_t at = (size_t)((const char *)pc - &__ehdr_start);
    if (other)
        report("%s at %p, code +0x%zx; the other is thread %u of block %u", what, p, at, other->thread, other->block);
    else report("%s at %p, code +0x%zx", what, p, at);
}

static Cell *global_cell(uintptr_t a)
{
    static uintptr_t last = ~(uintptr_t)0;
    static Cell *cells;
    if (a / PAGE != last) {
        Cell *&page = pages[a / PAGE];
        if (!page) page = (Cell *)calloc(PAGE_CELLS, sizeof(Cell));
        last = a / PAGE, cells = page;
    }
    return &cells[a % PAGE / CELL];
}

/* The segment did happen before what this thread does now. */
static bool ordered(uint32_t s)
{
    if (s < first_segment || s == segment_now) return true;
    const Segment &o = segments[s - first_segment];
    if (o.block != block_now) return false;
    if (o.thread == thread_now || o.barriers < barriers) return true;
    return o.thread / 32 == thread_now / 32 && clocks[thread_now].seen[o.thread % 32] >= o.step;
}

static const Segment *segment(uint32_t s)
{
    return s >= first_segment ? &segments[s - first_segment] : nullptr;
}

static void touch(Cell *c, bool write, const void *p, const void *pc)
{
    if (!ordered(c->write)) say(write ? "race: two writes" : "race: a read and a write", p, pc, segment(c->write));
    if (write) {
        if (!ordered(c->read)) say("race: a write and a read", p, pc, segment(c->read));
        else if (!ordered(c->read_before)) say("race: a write and a read", p, pc, segment(c->read_before));
        c->write = segment_now;
        c->written = true;
    } else if (c->read != segment_now) {
        const Segment *before = segment(c->read);
        if (before && before->thread != thread_now) c->read_before = c->read;
        c->read = segment_now;
    }
}

/* Whether [a, a + n) is in one array; remembers where. */
static bool inside(uintptr_t a, size_t n)
{
    if (a >= inside_from && a + n <= inside_to) return true;
    auto home = homes.upper_bound(a);
    if (home == homes.begin()) return false;
    --home;
    uintptr_t from = home->first, to = from + home->second.bytes;
    if (home->second.has_arrays) {
        auto array = arrays.upper_bound(a);
        if (array == arrays.begin()) return false;
        --array;
        from = array->first, to = from + array->second;
    }
    if (a < from || a + n > to) return false;
    inside_from = from, inside_to = to;
    return true;
}

static bool known(uintptr_t a)
{
    auto home = homes.upper_bound(a);
    if (home == homes.begin()) return false;
    --home;
    return a - home->first < home->second.bytes;
}

static void access(const void *p, size_t n, bool write, const void *pc)
{
    static const char *stacks, *shared;
    static size_t stack_bytes, shared_bytes;
    if (!running) return;
    if (!stacks) fiber_range(&stacks, &stack_bytes), shared_range(&shared, &shared_bytes);
    uintptr_t a = (uintptr_t)p;
    if (a - (uintptr_t)stacks < stack_bytes) return; /* locals, records of meetings */
    if (a - (uintptr_t)shared < shared_bytes) {
        if (!shared_has(p, n)) say("border: outside of a variable in shared memory", p, pc, nullptr);
        size_t first = (a - (uintptr_t)shared) / CELL, end = (a - (uintptr_t)shared + n + CELL - 1) / CELL;
        if (end > shared_cells.size()) return;
        if (end > shared_touched) shared_touched = end;
        for (size_t i = first; i < end; i++) {
            if (!write && !shared_cells[i].written) say("shared memory is read before it is written", p, pc, nullptr);
            touch(&shared_cells[i], write, p, pc);
        }
        return;
    }
    if (a >= (uintptr_t)&__ehdr_start && a < (uintptr_t)&_end) return; /* threadIdx and other constants of a launch */
    if (!inside(a, n)) {
        if (known(a)) say("border: outside of an array", p, pc, nullptr);
        else if (!foreign_allowed) say("border: not memory of a device", p, pc, nullptr);
        if (known(a) || !foreign_allowed) return;
    }
    for (uintptr_t at = a & ~(uintptr_t)(CELL - 1); at < a + n; at += CELL) touch(global_cell(at), write, p, pc);
}

static void on_region(const void *p, size_t bytes, Region kind)
{
    inside_from = inside_to = 0;
    uintptr_t a = (uintptr_t)p;
    auto home = homes.find(a);
    if (kind == Region::GONE) {
        arrays.erase(arrays.lower_bound(a), arrays.lower_bound(a + bytes));
        homes.erase(a); /* its cells stay: their segments are of launches that have ended */
    } else if (home != homes.end()) {
        home->second.bytes = bytes; /* a range that grew; its arrays stay */
    } else {
        homes[a] = Home{bytes, kind, false};
    }
}

static void on_note(const void *p, size_t bytes)
{
    inside_from = inside_to = 0;
    uintptr_t a = (uintptr_t)p;
    auto home = homes.upper_bound(a);
    if (home == homes.begin()) return;
    --home;
    home->second.has_arrays = true;
    if (bytes == 0) {
        arrays.erase(arrays.lower_bound(a), arrays.lower_bound(home->first + home->second.bytes));
    } else {
        arrays[a] = bytes;
        memset((void *)p, 0xff, bytes);
    }
}

static void on_foreign(bool allowed)
{
    foreign_allowed = allowed;
}

static const void *launch_arguments;

static void on_launch(const void *arguments, size_t bytes)
{
    first_segment += (uint32_t)segments.size();
    segments.clear();
    barriers = 0;
    running = true;
    launch_arguments = arguments;
    homes[(uintptr_t)arguments] = Home{bytes, Region::ARGUMENTS, false};
    inside_from = inside_to = 0;
}

static void on_end()
{
    running = false;
    homes.erase((uintptr_t)launch_arguments);
    inside_from = inside_to = 0;
}

static void on_block(unsigned number)
{
    block_now = number;
    for (size_t i = 0; i < shared_touched; i++) shared_cells[i] = Cell{};
    shared_touched = 0;
    for (Clock &c : clocks) c = Clock{};
    for (Clock &c : clocks) c.step = 1;
}

static void on_thread(unsigned number)
{
    Clock &c = clocks[number];
    thread_now = number;
    if (!c.segment) {
        segments.push_back(Segment{block_now, barriers, c.step, number});
        c.segment = first_segment + (uint32_t)segments.size() - 1;
    }
    segment_now = c.segment;
}

static void on_barrier()
{
    barriers++;
    for (Clock &c : clocks) c.segment = 0;
}

static void on_warp_sync(unsigned warp, unsigned mask)
{
    uint32_t joined[32] = {0};
    Clock *c = clocks + warp * 32;
    for (unsigned l = 0; l < 32; l++) {
        if (!(mask >> l & 1u)) continue;
        for (unsigned k = 0; k < 32; k++) joined[k] = c[l].seen[k] > joined[k] ? c[l].seen[k] : joined[k];
        joined[l] = c[l].step > joined[l] ? c[l].step : joined[l];
    }
    for (unsigned l = 0; l < 32; l++) {
        if (!(mask >> l & 1u)) continue;
        memcpy(c[l].seen, joined, sizeof joined);
        c[l].step++;
        c[l].segment = 0;
    }
    on_thread(thread_now);
}

static void on_access(const void *p, size_t bytes, bool write)
{
    access(p, bytes, write, __builtin_return_address(0));
}

static const Checker all = {on_launch, on_block,  on_thread, on_barrier, on_warp_sync,
                            on_end,    on_access, on_region, on_note,    on_foreign};

__attribute__((constructor)) static void start()
{
    checker = &all;
}

} // namespace emu

extern "C" {
#define ACCESS(n)                                                                                                      \
    void __tsan_read##n(void *p)                                                                                       \
    {                                                                                                                  \
        emu::access(p, n, false, __builtin_return_address(0));                                                         \
    }                                                                                                                  \
    void __tsan_write##n(void *p)                                                                                      \
    {                                                                                                                  \
        emu::access(p, n, true, __builtin_return_address(0));                                                          \
    }                                                                                                                  \
    void __tsan_unaligned_read##n(void *p)                                                                             \
    {                                                                                                                  \
        emu::access(p, n, false, __builtin_return_address(0));                                                         \
    }                                                                                                                  \
    void __tsan_unaligned_write##n(void *p)                                                                            \
    {                                                                                                                  \
        emu::access(p, n, true, __builtin_return_address(0));                                                          \
    }
ACCESS(1)
ACCESS(2)
ACCESS(4)
ACCESS(8)
ACCESS(16)

void __tsan_read_range(void *p, size_t n)
{
    emu::access(p, n, false, __builtin_return_address(0));
}

void __tsan_write_range(void *p, size_t n)
{
    emu::access(p, n, true, __builtin_return_address(0));
}

/* What else the compiler may ask for, from libraries' headers: counters of shared pointers, entries of functions. */
int __tsan_atomic32_fetch_add(volatile int *p, int v, int)
{
    int before = *p;
    *p = before + v;
    return before;
}
void __tsan_func_entry(void *)
{
}
void __tsan_func_exit()
{
}
void __tsan_init()
{
}
void __tsan_vptr_update(void **, void *)
{
}
void __tsan_vptr_read(void **)
{
}
}
