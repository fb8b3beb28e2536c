/* How a matrix product is cut into pieces of similar cost, one thread each: by rows, experts and columns, never by the summed
 * index, so that the cut changes no bit. One linear layer is a group of one expert. */
#ifndef CPU_LINEAR_PIECES_H
#define CPU_LINEAR_PIECES_H

#include "cpu/internal.h"

/* Rows [r0, r1) of the call and columns [c0, c1) of the output, with the matrix of expert e. For bwd_w: rows are the
 * expert's, columns are outputs. */
typedef struct Piece {
    int e;
    size_t r0, r1, c0, c1;
} Piece;

/* The experts of a call: rows [offsets[e], offsets[e+1]); every w[e] is [out, in]. */
typedef struct Group {
    const GemmProvider *gemm;
    const Mat *w;
    const int32_t *offsets;
    int E;
    size_t out, in, rows;
} Group;

static inline size_t expert_rows(const Group *g, int e)
{
    return (size_t)(g->offsets[e + 1] - g->offsets[e]);
}

/* In scratch of thread 0, in the order in which a team should take them. */
typedef struct Pieces {
    Piece *at;
    size_t count;
    int team;
} Pieces;

/* Forward. */
Pieces pieces_of_fwd(Backend *b, const Group *g);
/* Gradient of x. */
Pieces pieces_of_bwd_x(Backend *b, const Group *g);
/* Gradient of w: each piece has all rows of its expert. */
Pieces pieces_of_bwd_w(Backend *b, const Group *g);

#endif
