/* embed_fwd, embed_bwd: contract in core/ops/ops.h. */
#include "cpu/kernels/simd/rows.h"

static void embed_rows(Mat y, Mat table, const int32_t *ids)
{
#pragma omp for nowait
    for (size_t n = 0; n < y.rows; n++) {
        CHECK(ids[n] >= 0 && (size_t)ids[n] < table.rows);
        Row from = row_of(table, (size_t)ids[n]);
        float *out = mat_row(y, n);
        EACH_V16(j, k, y.cols)
        {
            row_store(out + j, any_load(from, j, k), k);
        }
    }
}

void cpu_embed_fwd(Backend *b, Mat y, Mat table, const int32_t *ids)
{
    check_f32(y);
    CHECK_EQ(y.cols, table.cols);
    ON_TEAM(cpu_team(b, (double)(y.rows * y.cols)), embed_rows(y, table, ids));
}

/* A thread owns columns: every element adds its tokens in order, and a frequent word does not serialise the team. */
void cpu_embed_bwd(Backend *b, Mat dtable, Mat dy, const int32_t *ids)
{
    check_f32(dtable), check_f32(dy);
    CHECK_EQ(dtable.cols, dy.cols);
    int team = cpu_team(b, (double)(dy.rows * dy.cols));
#pragma omp parallel num_threads(team)
    {
        int part = omp_get_thread_num(), parts = omp_get_num_threads();
        size_t from = column_cut(dy.cols, part, parts), to = column_cut(dy.cols, part + 1, parts);
        for (size_t n = 0; n < dy.rows; n++) {
            CHECK(ids[n] >= 0 && (size_t)ids[n] < dtable.rows);
            float *out = mat_row(dtable, (size_t)ids[n]) + from;
            const float *in = mat_row(dy, n) + from;
            EACH_V16(j, k, to - from)
            {
                row_store(out + j, v16_add(row_load(out + j, k), row_load(in + j, k)), k);
            }
        }
    }
}
