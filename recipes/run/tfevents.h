/* TensorBoard event files: scalars only (docs/formats.md 5). An event is a wall time, a step and any number of tagged
 * values; files are append-only and readers tolerate a torn tail. */
#ifndef RECIPES_TFEVENTS_H
#define RECIPES_TFEVENTS_H

#include <stddef.h>
#include <stdint.h>

#include "core/base/status.h"

/* CRC-32C (Castagnoli), reflected, initial and final xor 0xFFFFFFFF. */
uint32_t crc32c(const void *bytes, size_t n);

/* A growing byte string; zero-initialise, free(.data). */
typedef struct EventBytes {
    unsigned char *data;
    size_t n, capacity;
} EventBytes;

/* Appends one framed record: the version record that opens a file, or an event with n scalars. */
void event_append_version(EventBytes *out, double wall);
void event_append_scalars(EventBytes *out, double wall, int64_t step, const char *const *tags, const float *values,
                          int n);

typedef struct EventWriter EventWriter;
/* A new file events.out.tfevents.SECONDS.r1.PID.N in the folder. */
EventWriter *events_open(const char *folder, Status *st);
/* Written and flushed. */
bool events_scalars(EventWriter *w, double wall, int64_t step, const char *const *tags, const float *values, int n,
                    Status *st);
void events_close(EventWriter *w);

/* Removes every event file of the folder. */
bool events_remove(const char *folder, Status *st);

#endif
