/* Cutting a matrix product into pieces. */
#include "cpu/linear_pieces.h"

#include <string.h>

/* Tuned with `r1 bench` on two Zen 5 cores; any values give the same bits. */
enum {
    MIN_ROW_CHUNK =
        24, /* below this many rows a forward product costs what streaming its weights costs: cut columns only */
    MIN_OUT_CHUNK = 24, /* dW: fewer rows of dw in a piece do not pay for reading x again */
    FEW_COLUMNS = 64,   /* decode: the narrowest piece, four cache lines of a weight's row */
    SOME_ROWS = 128,    /* with MANY_COLUMNS (a vocabulary's head) the weights are still what takes time up to here */
    MANY_COLUMNS = 2048,
    WIDE_ENOUGH = 512, /* dW: for narrower x re-reading x is cheaper than a block of dy that is larger than L2 */
};

static int group_team(Backend *b, const Group *g)
{
    return cpu_team(b, (double)g->rows * (double)g->out * (double)g->in / 8.0);
}

/* The last piece of each thread is cut into TAIL_PIECES, so that the team waits at its barrier for a fraction of a piece when
 * one processor is slower than another. Pieces stay above WORTH_CUTTING multiply-adds (reading the weights counted as 16 more
 * rows) and above LEAST_*, below which the matmul's own packing shows. */
enum { TAIL_PIECES = 4, WORTH_CUTTING = 1 << 20, LEAST_COLUMNS = 256, LEAST_ROWS = 72, LEAST_OUTS = 96 };

static Pieces pieces_open(Backend *b, int team, size_t count)
{
    size_t most = count + (size_t)team * (TAIL_PIECES - 1);
    return (Pieces){.at = (Piece *)cpu_scratch(b, 0, ceil_div(most * sizeof(Piece), sizeof(float))), .team = team};
}

/* Pieces of n rows or columns. */
static size_t pieces_of(size_t n, size_t least, size_t work)
{
    size_t pieces = min_size(min_size(TAIL_PIECES, n / least), work / WORTH_CUTTING);
    return pieces ? pieces : 1;
}

/* Columns are cut at multiples of `unit` (0: nothing is cut); where they are few, rows, if they may. depth: a product's third
 * side. */
static void cut_tail(Pieces *p, size_t unit, size_t least, bool by_rows, size_t depth)
{
    Piece tail[64];
    size_t n = min_size((size_t)p->team, min_size(p->count, sizeof tail / sizeof *tail));
    if (p->team == 1 || unit == 0) return;
    p->count -= n;
    memcpy(tail, p->at + p->count, n * sizeof *tail);
    for (size_t i = 0; i < n; i++) {
        Piece t = tail[i];
        size_t rows = t.r1 - t.r0, cols = t.c1 - t.c0, units = ceil_div(cols, unit), work = (rows + 16) * cols * depth;
        size_t across = pieces_of(cols, least, work),
               down = across > 1 || !by_rows ? 1 : pieces_of(rows, LEAST_ROWS, work);
        for (size_t k = 0; k < across; k++) {
            size_t from = t.c0 + units * k / across * unit,
                   to = k + 1 < across ? t.c0 + units * (k + 1) / across * unit : t.c1;
            for (size_t j = 0; j < down; j++)
                p->at[p->count++] = (Piece){t.e, t.r0 + rows * j / down, t.r0 + rows * (j + 1) / down, from, to};
        }
    }
}

/* How an output is cut: chunks of rows, each in `parts` ranges of columns. At least two pieces a thread for balance, one where
 * few rows make them short. Columns are cut first (each weight is then read once), rows where columns are too few. */
typedef struct Cut {
    size_t chunk, row_pieces, parts;
} Cut;

static size_t count_row_pieces(const Group *g, size_t chunk)
{
    size_t n = 0;
    for (int e = 0; e < g->E; e++) n += ceil_div(expert_rows(g, e), chunk);
    return n;
}

static Cut cut_rows(const Group *g, int team, size_t cols)
{
    size_t unit = g->gemm->column_unit, each = g->rows < MIN_ROW_CHUNK ? 1 : 2,
           want = team > 1 ? each * (size_t)team : 1;
    Cut cut = {.chunk = PIECE_ROWS, .parts = 1};
    if (!unit) cut.chunk = min_size(PIECE_ROWS, ceil_div(g->rows, (size_t)team) + 1);
    cut.row_pieces = count_row_pieces(g, cut.chunk);
    if (!unit || cut.row_pieces == 0 || cut.row_pieces >= want) return cut;
    size_t units = ceil_div(cols, unit);
    cut.parts = ceil_div(want, cut.row_pieces);
    if (units >= cut.parts || g->rows < MIN_ROW_CHUNK * (size_t)team) {
        cut.parts = min_size(cut.parts, units);
        return cut;
    }
    cut.parts = 1;
    cut.chunk = ceil_div(g->rows, (size_t)team);
    cut.row_pieces = count_row_pieces(g, cut.chunk);
    return cut;
}

/* Pieces over (expert, row chunk, column range) of an output with `cols` columns. */
static Pieces by_rows(Backend *b, const Group *g, size_t cols)
{
    int team = group_team(b, g);
    Cut cut = cut_rows(g, team, cols);
    size_t parts = cut.parts, unit = g->gemm->column_unit, units = parts > 1 ? ceil_div(cols, unit) : 1;
    Pieces p = pieces_open(b, team, cut.row_pieces * parts);
    for (int e = 0; e < g->E; e++) {
        size_t from = (size_t)g->offsets[e], rows = expert_rows(g, e), count = ceil_div(rows, cut.chunk);
        for (size_t i = 0; i < count * parts; i++) {
            size_t row = i / parts, col = i % parts;
            p.at[p.count++] = (Piece){
                .e = e,
                .r0 = from + rows * row / count,
                .r1 = from + rows * (row + 1) / count,
                .c0 = parts > 1 ? ceil_div(units * col, parts) * unit : 0,
                .c1 = col + 1 == parts ? cols : ceil_div(units * (col + 1), parts) * unit,
            };
        }
    }
    cut_tail(&p, unit, LEAST_COLUMNS, true, g->out * g->in / cols);
    return p;
}

/* Few rows: the product is bound by streaming the weights; with a wide output it still is at SOME_ROWS. */
static bool weights_bound(const Group *g)
{
    return g->gemm->column_unit && (g->rows < MIN_ROW_CHUNK || (g->rows < SOME_ROWS && g->out >= MANY_COLUMNS));
}

/* Pieces over (expert, column range), smaller towards the end, so that threads end together. Each reads whole columns of the
 * packed weight: decoding became 12-17 % faster than with equal cuts (r1 bench, two Zen 5 cores). */
static Pieces by_columns(Backend *b, const Group *g)
{
    size_t team = (size_t)group_team(b, g), unit = g->gemm->column_unit, left = 0;
    if (unit < FEW_COLUMNS) unit = FEW_COLUMNS / unit * unit;
    size_t units = team > 1 ? ceil_div(g->out, unit) : 1;
    for (int e = 0; e < g->E; e++) left += expert_rows(g, e) > 0 ? units : 0;
    Pieces p = pieces_open(b, (int)team, left);
    for (int e = 0; e < g->E; e++) {
        for (size_t at = 0, count; expert_rows(g, e) > 0 && at < units; at += count, left -= count) {
            count = min_size(units - at, ceil_div(left, 2 * team));
            p.at[p.count++] = (Piece){e, (size_t)g->offsets[e], (size_t)g->offsets[e + 1], at * unit,
                                      at + count == units ? g->out : (at + count) * unit};
        }
    }
    return p;
}

Pieces pieces_of_fwd(Backend *b, const Group *g)
{
    return weights_bound(g) ? by_columns(b, g) : by_rows(b, g, g->out);
}

Pieces pieces_of_bwd_x(Backend *b, const Group *g)
{
    return by_rows(b, g, g->in);
}

Pieces pieces_of_bwd_w(Backend *b, const Group *g)
{
    size_t busy = 0, team = (size_t)group_team(b, g);
    for (int e = 0; e < g->E; e++) {
        busy += expert_rows(g, e) > 0;
    }
    /* Few pieces: a multiple of the threads. Every piece reads all of x, so smaller ones would read it more often. */
    size_t chunk = g->in < WIDE_ENOUGH ? PIECE_ROWS / 2 : PIECE_ROWS, parts = ceil_div(g->out, chunk);
    if (busy && busy * parts < 4 * team) {
        parts = min_size(ceil_div(ceil_div(busy * parts, team) * team, busy), ceil_div(g->out, MIN_OUT_CHUNK));
    }
    Pieces p = pieces_open(b, (int)team, busy * parts);
    for (int e = 0; e < g->E; e++) {
        for (size_t i = 0; expert_rows(g, e) > 0 && i < parts; i++) {
            p.at[p.count++] = (Piece){e, (size_t)g->offsets[e], (size_t)g->offsets[e + 1], g->out * i / parts,
                                      g->out * (i + 1) / parts};
        }
    }
    cut_tail(&p, MIN_OUT_CHUNK, LEAST_OUTS, false, g->in);
    return p;
}
