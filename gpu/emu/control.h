/* What a test tells the emulator, and asks of it. NVIDIA's interface is in cuda_runtime_api.h; this is everything beside it.
 *
 * The environment says the same to a plugin that is already built: R1_EMU_SCHEDULE=forward|reverse|seed:N,
 * R1_EMU_STREAMS=eager|lazy|random:N, R1_EMU_DEVICES=N, R1_EMU_MEMORY=BYTES (of each device). */
#ifndef GPU_EMU_CONTROL_H
#define GPU_EMU_CONTROL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The order in which blocks, warps and lanes run. Seeded: a lane at random at every point where one has to wait. */
typedef enum EmuSchedule { EMU_FORWARD, EMU_REVERSE, EMU_SEEDED } EmuSchedule;
void emu_schedule(EmuSchedule how, uint64_t seed);

/* When queued work runs: at the call, only when somebody waits for it, or then and in a random order of the streams. */
typedef enum EmuStreams { EMU_EAGER, EMU_LAZY, EMU_RANDOM } EmuStreams;
void emu_streams(EmuStreams how, uint64_t seed);

/* Takes effect for allocations from now on; nothing may be allocated. */
void emu_devices(int count, size_t bytes);

/* Faults of kernels and of calls: how many since the last clear, their sentences, and whether they are printed. */
int emu_reports(void);
const char *emu_report_text(int i);
void emu_reports_clear(void);
void emu_quiet(bool quiet);

/* Checked build only (emu_is_checked), in the stream's order: from here on bytes [p, p + bytes) of an allocation are one array,
 * and an access must stay inside one; bytes 0: all arrays of that allocation from p on are given back. */
bool emu_is_checked(void);
void emu_note(const void *p, size_t bytes, struct CUstream_st *stream);
/* Whether kernels may touch memory that is no allocation of the emulator (buffers of a test). Off at first. */
void emu_foreign(bool allowed);

typedef struct EmuCounters {
    size_t used, peak;                         /* bytes of allocations and mapped ranges */
    uint64_t h2d, d2h, d2d, peer;              /* bytes copied */
    uint64_t launches, blocks, threads, waits; /* waits: of the host for a stream or an event */
} EmuCounters;
EmuCounters emu_counters(int device);

#ifdef __cplusplus
}
#endif
#endif
