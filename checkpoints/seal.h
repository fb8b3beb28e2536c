/* A checkpoint's seal: its first 512 bytes, a line with the format, the file's length and the SHA-256 of everything behind
 * the seal, zeros to their end. It is written last, so a file without its end, or changed anywhere, has none that fits. */
#ifndef CHECKPOINTS_SEAL_H
#define CHECKPOINTS_SEAL_H

#include "checkpoints/weight_source.h"

enum { FORMAT_VERSION = 1, SEAL = 512 };
extern const char format_name[];

/* What is written after HDF5 closed the file: `bytes` at offset `at` of it, of `data` or of a parameter to be converted. */
typedef struct Piece {
    uint64_t at;
    size_t bytes;
    const void *data;
    bool mapped;        /* data lies in a mapping of a file: its pages are given back */
    const Param *param; /* data NULL: to be read from source */
    const WeightSource *source;
} Piece;

typedef struct Pieces {
    Piece *list;
    int n, capacity;
    /* The bytes of a piece without data, valid until the next call; NULL with a sentence. */
    const void *(*convert)(void *context, const struct Piece *p, Status *st);
    void *context;
} Pieces;

void pieces_add(Pieces *p, Piece piece);
void pieces_free(Pieces *p);

/* Writes the pieces into the file `temp` and its seal, hashing on a second thread what is written. Sentences name `shown`. */
bool seal_write(const char *temp, const char *shown, Pieces *pieces, Status *st);

/* Reads the whole file; false with a sentence when any byte is not what was sealed. A file that has not changed since this
 * process found it whole is not read again. */
bool seal_verify(int fd, const char *path, Status *st);

#endif
