/* A keeper (core/keeper.h) over another one, or over none, of parts whose trained weights or gradients lie in a file block: when
 * core is done with a part, its pages there may go. */
#ifndef CHECKPOINTS_PART_REST_H
#define CHECKPOINTS_PART_REST_H

#include "checkpoints/file_block.h"
#include "core/keeper.h"
#include "core/params.h"

typedef struct PartRest {
    Keeper keeper;
    Keeper *below; /* NULL: nobody else is told */
    FileBlock *block;
    const ParamTable *table;
    uint8_t *idle; /* [parts] experts to which the layer's last routing sent no rows */
} PartRest;

/* The table outlives it, with what is trained decided; it may be moved before it is used. */
PartRest part_rest_open(Keeper *below, FileBlock *block, const ParamTable *table);
void part_rest_close(PartRest *r);

#endif
