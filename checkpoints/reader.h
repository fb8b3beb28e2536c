/* Parts of a model read from the files where they lie, by threads of its own, past the page cache where the file system allows it
 * (docs/placement.md, "How the disk is read"). */
#ifndef CHECKPOINTS_READER_H
#define CHECKPOINTS_READER_H

#include "checkpoints/hf/hf.h"
#include "checkpoints/model_file.h"
#include "checkpoints/part_source.h"

typedef struct Reader Reader;

/* Parts of m, which must outlive the reader, in a form, without what lies apart (Param.apart of its table).
 * Routed experts of a folder or a checkpoint whose tensors are BF16, F16 or F32 are read directly, also where m is a checkpoint
 * that stands on it; whatever else lies in a file through its mapping, parameter by parameter. A part that holds NaN or an
 * infinity when it is read for the first time is a fault. */
Reader *reader_open(const LoadedModel *m, Form form, int threads, Status *st);
void reader_close(Reader *r);
PartSource *reader_source(Reader *r);

/* Bytes that its threads work in, where numbers are converted. */
size_t reader_memory(const Reader *r);

typedef struct ReaderNotes {
    double seconds; /* threads were busy reading */
    int apart; /* experts whose tensors do not lie side by side (two shards, fused): several reads and no direct ones */
    int mapped;    /* experts that are read through the mapping */
    bool buffered; /* some file cannot be read past the page cache */
} ReaderNotes;
ReaderNotes reader_notes(const Reader *r);

#endif
