/* HDF5 files of plain arrays and attributes. After a failure the further calls of a writer do nothing and its close
 * tells.
 *
 * HDF5 1.10 crashes when it closes a file that it could not write to its end (disk full), and at exit. So a writer that
 * failed is never closed: its file is cut to nothing, the handle is left behind, and HDF5's exit handler is switched
 * off, which means that whoever opens a file here closes it. */
#ifndef CHECKPOINTS_H5_H
#define CHECKPOINTS_H5_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/status.h"

/* H5_BF16: raw words on both sides; other programs see a float type of 16 bits. */
typedef enum { H5_U8, H5_I32, H5_I64, H5_U64, H5_BF16, H5_F32, H5_F64 } H5Type;

typedef struct H5Writer H5Writer;
/* Creates `path`, `userblock` bytes of zeros at its front (0, or a power of two from 512). Sentences name `shown`. */
H5Writer *h5_create(const char *path, const char *shown, size_t userblock, Status *st);
/* A contiguous dataset; groups in its name ("model/x") are made. count 0 is allowed. */
void h5_write(H5Writer *w, const char *name, H5Type type, int ndim, const uint64_t *shape, const void *data);
/* The same without its data: where in the file, and how many, are the bytes that the caller writes after h5_close. *bytes is 0
 * after a failure. */
uint64_t h5_reserve(H5Writer *w, const char *name, H5Type type, int ndim, const uint64_t *shape, size_t *bytes);
/* Bytes as a vector of U8. */
void h5_write_bytes(H5Writer *w, const char *name, const void *bytes, size_t n);
/* Attributes of a group, which is made when it is not there ("/" is the root). Texts are UTF-8 and short (below 64
 * KiB). */
void h5_attr(H5Writer *w, const char *group, const char *name, H5Type type, const void *value);
void h5_attr_text(H5Writer *w, const char *group, const char *name, const char *text);
/* An external link: `name` here stands for `target` in `file` (relative to this file's folder). */
void h5_link(H5Writer *w, const char *name, const char *file, const char *target);
/* Flushes and closes; false with a sentence when anything failed. Frees the writer either way. */
bool h5_close(H5Writer *w, Status *st);

typedef struct H5Reader H5Reader;
H5Reader *h5_open(const char *path, const char *shown, Status *st);
void h5_reader_close(H5Reader *r);
bool h5_has(H5Reader *r, const char *name);
/* Shape of a dataset of this type; false when it is absent, of another type, has more than 8 dimensions, or
 * announces more than the file holds (chunked, filtered and external data are refused too), so that what follows from
 * a shape fits the file's size. */
bool h5_shape(H5Reader *r, const char *name, H5Type type, int *ndim, uint64_t shape[8]);
/* The whole dataset, which must have this type and `count` elements. */
bool h5_read(H5Reader *r, const char *name, H5Type type, uint64_t count, void *out, Status *st);
/* Of a dataset of `count` elements, the n from `from` on: whole rows of a matrix. */
typedef struct H5Rows {
    uint64_t count, from, n;
} H5Rows;
bool h5_read_rows(H5Reader *r, const char *name, H5Type type, H5Rows rows, void *out, Status *st);
/* Where the elements of a dataset lie, side by side; `path` leads to the very file that is open, even when another was renamed to
 * its name, for as long as the reader is. False: it is not as h5_shape wants it, or lies in the file's metadata. */
typedef struct H5Place {
    const char *path, *shown;
    uint64_t offset;
} H5Place;
bool h5_place(H5Reader *r, const char *name, H5Type type, uint64_t count, H5Place *out);
/* A vector of U8, NUL-terminated for convenience; NULL when absent or not sound (no failure). Caller frees. */
char *h5_read_bytes(H5Reader *r, const char *name, size_t *length);
/* False when absent. */
bool h5_read_attr(H5Reader *r, const char *group, const char *name, H5Type type, void *value);
bool h5_read_attr_text(H5Reader *r, const char *group, const char *name, char *text, size_t size);
/* Calls visit with the name of each link in the group, in ascending order, until it returns false. */
void h5_each(H5Reader *r, const char *group, bool (*visit)(const char *name, void *context), void *context);

/* "HDF5 1.10.8". */
const char *h5_library(void);

#endif
