/* The state of a training run on disk, part by part: PATH.records, its manifest PATH.json and the one before,
 * PATH.previous.json.
 *
 * Every record (a part's weights and moments) has two places in PATH.records, each at a multiple of 4,096 bytes. A write
 * goes to the place that the manifest does not name; a commit makes the writes durable and puts a manifest in place that
 * names step, place and checksum of every record (XXH3, since SHA-256 has a tenth of a disk's speed on one core). So a
 * process that is killed at any moment leaves the generation that was committed last, whole, and up to the first write
 * after a commit the one before it too. What is read is compared with its checksum. A record that was never written is
 * zeros, without reading. */
#ifndef CHECKPOINTS_STATE_FILE_H
#define CHECKPOINTS_STATE_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "data/json.h"

/* What of a record is read by itself: f32 master weights; first and second moments. */
enum { STATE_WEIGHTS, STATE_MOMENTS, STATE_PLANES, STATE_PAGE = 4096 };

typedef struct StateRecord {
    char name[56];              /* for a person: "layer 4, expert 12" */
    size_t bytes[STATE_PLANES]; /* 0: it has none */
} StateRecord;

typedef struct StateCounts {
    uint64_t read, written; /* bytes, since the file was opened; the check of a resumed state included */
    double seconds;         /* in reads and writes */
} StateCounts;

typedef struct StateFile StateFile;

/* Opens or creates the files of PATH for these records, and locks them. New space is reserved at once (posix_fallocate), so that
 * a full disk is a sentence here and none later. Refuses one that another process holds, or of other records. */
StateFile *state_file_open(const char *path, const StateRecord *records, int n, Status *st);
void state_file_close(StateFile *f);
/* Bytes of PATH.records for these records. */
uint64_t state_file_size(const StateRecord *records, int n);
/* Removes the files of PATH. */
void state_file_remove(const char *path);

/* What the newest manifest says beside the records (a view), NULL: there is none, the file is new. Nothing is verified yet. */
const Json *state_file_about(const StateFile *f);
/* Reads all records of the newest generation; goes back to the one before (state_file_about changes) when one of them is not what
 * was written, saying so in `note` (else ""). Fails when neither verifies. */
bool state_file_verify(StateFile *f, char note[512], Status *st);

/* Whether the record was ever written. */
bool state_file_has(const StateFile *f, int record);
/* A plane, as it was written last (zeros: never), to memory at a multiple of STATE_PAGE with room for whole pages. */
bool state_file_read(StateFile *f, int record, int plane, void *out, Status *st);
/* Both planes (NULL where bytes are 0), from such memory, to the place that is not committed. A failure stays: nothing can be
 * committed after it. */
bool state_file_write(StateFile *f, int record, const void *const planes[STATE_PLANES], Status *st);
/* The records as they are now, with `about` (taken over), are the newest generation. */
bool state_file_commit(StateFile *f, Json *about, Status *st);

StateCounts state_file_counts(const StateFile *f);

#endif
