/* Every op that computes, with its parameters, its arguments and what one call needs (core/ops/op_costs.h); the order is
 * that of core/ops/ops_list.h. Included with OP(name, parameters, arguments, cost) defined, and HERE(array, n): its n
 * elements on the host. No guard. */
OP(linear_fwd, (Backend * b, Mat y, Mat x, Mat w, const float *bias, bool add), (b, y, x, w, bias, add),
   cost_product((double)x.rows, w, 1, cost_size(x) + (add ? cost_size(y) : 0), cost_size(y)))
OP(linear_bwd_x, (Backend * b, Mat dx, Mat dy, Mat w, bool add), (b, dx, dy, w, add),
   cost_product((double)dy.rows, w, 1, cost_size(dy) + (add ? cost_size(dx) : 0), cost_size(dx)))
OP(linear_bwd_w, (Backend * b, Mat dw, float *dbias, Mat dy, Mat x), (b, dw, dbias, dy, x),
   cost_product((double)x.rows, dw, 1, cost_size(dy) + cost_size(x), cost_size(dw)))
OP(grouped_fwd, (Backend * b, Mat y, Mat x, const Mat *w, const int32_t *offsets, int E), (b, y, x, w, offsets, E),
   cost_product((double)x.rows, w[0], cost_busy(HERE(offsets, E + 1), E), cost_size(x), cost_size(y)))
OP(grouped_bwd_x, (Backend * b, Mat dx, Mat dy, const Mat *w, const int32_t *offsets, int E),
   (b, dx, dy, w, offsets, E),
   cost_product((double)dy.rows, w[0], cost_busy(HERE(offsets, E + 1), E), cost_size(dy), cost_size(dx)))
OP(grouped_bwd_w, (Backend * b, const Mat *dw, Mat dy, Mat x, const int32_t *offsets, int E),
   (b, dw, dy, x, offsets, E),
   cost_product((double)x.rows, dw[0], cost_busy(HERE(offsets, E + 1), E), cost_size(dy) + cost_size(x),
                cost_busy(HERE(offsets, E + 1), E) * cost_size(dw[0])))
OP(heads_product, (Backend * b, HeadView y, HeadView x, Mat w, HeadRows s, int n, bool transposed),
   (b, y, x, w, s, n, transposed),
   cost_product((double)n *s.heads, mat_rows(w, 0, s.rows), s.heads,
                (double)n *s.heads *(double)(transposed ? s.rows : w.cols),
                (double)n *s.heads *(double)(transposed ? w.cols : s.rows)))
OP(embed_fwd, (Backend * b, Mat y, Mat table, const int32_t *ids), (b, y, table, ids),
   cost_moves(cost_size(y), cost_size(y)))
OP(embed_bwd, (Backend * b, Mat dtable, Mat dy, const int32_t *ids), (b, dtable, dy, ids),
   cost_moves(2 * cost_size(dy), cost_size(dy)))
OP(rmsnorm_fwd, (Backend * b, Mat y, float *rstd, Mat x, const float *w, float eps), (b, y, rstd, x, w, eps),
   cost_moves(cost_size(x), cost_size(x)))
OP(rmsnorm_bwd, (Backend * b, Mat dx, float *dw, Mat dy, Mat x, const float *w, const float *rstd, bool add_dx),
   (b, dx, dw, dy, x, w, rstd, add_dx), cost_moves((add_dx ? 3 : 2) * cost_size(x), cost_size(x)))
OP(headnorm_fwd, (Backend * b, HeadView y, float *rstd, HeadView x, HeadNorm norm, float eps),
   (b, y, rstd, x, norm, eps), cost_moves(cost_heads(norm), cost_heads(norm)))
OP(headnorm_bwd, (Backend * b, HeadView dx, float *dw, HeadView dy, HeadView x, HeadNorm norm, const float *rstd),
   (b, dx, dw, dy, x, norm, rstd), cost_moves(2 * cost_heads(norm), cost_heads(norm)))
OP(rope, (Backend * b, HeadView x, const int32_t *pos, RopeArgs args, int n, int heads), (b, x, pos, args, n, heads),
   cost_moves((double)n *heads *args.Dr, (double)n *heads *args.Dr))
OP(swiglu_fwd, (Backend * b, Mat h, Mat gu), (b, h, gu), cost_moves(cost_size(gu), cost_size(h)))
OP(swiglu_bwd, (Backend * b, Mat dgu, Mat dh, Mat gu), (b, dgu, dh, gu),
   cost_moves(cost_size(dh) + cost_size(gu), cost_size(dgu)))
OP(attention_fwd, (Backend * b, AttentionShape s, HeadView o, float *lse, AttentionInputs in, SequenceRows seq),
   (b, s, o, lse, in, seq), cost_attention(s, in, HERE(seq.offsets, seq.count + 1), seq.count, false))
OP(attention_bwd,
   (Backend * b, AttentionShape s, AttentionInputs din, HeadView dout, HeadView o, const float *lse, AttentionInputs in,
    SequenceRows seq),
   (b, s, din, dout, o, lse, in, seq), cost_attention(s, in, HERE(seq.offsets, seq.count + 1), seq.count, true))
OP(cache_write, (Backend * b, AttentionShape s, CacheLayer cache, const CacheRow *rows, int n, AttentionInputs in),
   (b, s, cache, rows, n, in),
   cost_moves(cost_floats(in.v.dtype, cost_keys(s, n, cache.rope_shared)), cost_cached(s, cache, n)))
OP(attention_cached,
   (Backend * b, AttentionShape s, HeadView o, HeadView q, CacheLayer cache, const CacheRow *rows, int n),
   (b, s, o, q, cache, rows, n),
   ((OpCost){.flops = 2.0 * s.H * (s.Dn + s.Dr + s.Dv) * cost_pairs(HERE(rows, n), n),
             .read = cost_cached(s, cache, cost_pairs(HERE(rows, n), n)),
             .written = (double)n * s.H * s.Dv}))
OP(latent_write, (Backend * b, CacheLayer cache, const CacheRow *rows, int n, Mat z, HeadView k_rope, int Dr),
   (b, cache, rows, n, z, k_rope, Dr),
   cost_moves(cost_floats(z.dtype, (double)n *((double)z.cols + Dr)),
              cost_floats(cache.dtype, (double)n *((double)z.cols + Dr))))
OP(attention_latent,
   (Backend * b, AttentionShape s, int Rkv, HeadView u, HeadView qz, HeadView q_rope, CacheLayer cache,
    const CacheRow *rows, int n),
   (b, s, Rkv, u, qz, q_rope, cache, rows, n),
   ((OpCost){.flops = 2.0 * s.H * (2 * Rkv + s.Dr) * cost_pairs(HERE(rows, n), n),
             .read = cost_floats(cache.dtype, (Rkv + s.Dr) * cost_pairs(HERE(rows, n), n)),
             .written = (double)n * s.H * Rkv}))
OP(router_fwd, (Backend * b, RouterShape s, Mat scores, int32_t *idx, Mat weights, Mat logits, const float *bias),
   (b, s, scores, idx, weights, logits, bias),
   cost_moves(cost_size(logits), cost_size(scores) + 2 * cost_size(weights)))
OP(router_bwd,
   (Backend * b, RouterShape s, Mat dlogits, Mat dweights, const Mat *dscores, Mat scores, const int32_t *idx),
   (b, s, dlogits, dweights, dscores, scores, idx),
   cost_moves(cost_size(scores) + 2 * cost_size(dweights), cost_size(dlogits)))
OP(sort_experts, (Backend * b, int32_t *offsets, int32_t *slot, int32_t *rows, const int32_t *idx, int n, int E, int K),
   (b, offsets, slot, rows, idx, n, E, K), cost_moves((double)n *K, 2.0 * n * K))
OP(balance_sums,
   (Backend * b, BalanceSums out, BalanceShape s, Mat scores, const int32_t *idx, const int32_t *offsets, int nseq),
   (b, out, s, scores, idx, offsets, nseq), cost_moves(cost_size(scores), 4.0 * nseq * s.E))
OP(balance_grad, (Backend * b, Mat dscores, BalanceSlopes s, Mat scores, const int32_t *offsets, int nseq),
   (b, dscores, s, scores, offsets, nseq), cost_moves(cost_size(scores), cost_size(dscores)))
OP(bias_update, (Backend * b, float *bias, const int32_t *offsets, int E, float rate), (b, bias, offsets, E, rate),
   cost_moves(2.0 * E, E))
OP(gather_rows, (Backend * b, Mat y, Mat x, const int32_t *rows), (b, y, x, rows),
   cost_moves(cost_size(y), cost_size(y)))
OP(scatter_add_rows, (Backend * b, Mat dx, Mat dy, const int32_t *slot, int K), (b, dx, dy, slot, K),
   cost_moves(cost_size(dx) + K * cost_size(dx), cost_size(dx)))
OP(combine_fwd, (Backend * b, Mat y, Mat x, const int32_t *slot, Mat weights, Mat shared),
   (b, y, x, slot, weights, shared),
   cost_moves(cost_size(x) + cost_size(y) + (shared.p ? cost_size(shared) : 0), cost_size(y)))
OP(combine_bwd, (Backend * b, Mat dx, Mat dweights, Mat dy, Mat x, const int32_t *slot, Mat weights),
   (b, dx, dweights, dy, x, slot, weights), cost_moves(cost_size(x) + cost_size(dy), cost_size(dx)))
OP(add, (Backend * b, Mat y, Mat x), (b, y, x), cost_moves(2 * cost_size(x), cost_size(x)))
OP(copy, (Backend * b, Mat y, Mat x), (b, y, x), cost_moves(cost_size(x), cost_size(x)))
OP(scale, (Backend * b, Mat y, float a), (b, y, a), cost_moves(cost_size(y), cost_size(y)))
OP(head_stats,
   (Backend * b, Mat logits, HeadStats out, const int32_t *targets, float inv_temperature, const Mat *ref,
    HeadMaxima known),
   (b, logits, out, targets, inv_temperature, ref, known),
   cost_moves((ref ? 2 : 1) * cost_size(logits), (ref ? 2 : 1) * cost_size(logits)))
OP(head_grad, (Backend * b, Mat logp, const int32_t *targets, float inv_temperature, HeadGrads by, const Mat *ref),
   (b, logp, targets, inv_temperature, by, ref), cost_moves((ref ? 2 : 1) * cost_size(logp), cost_size(logp)))
OP(sample, (Backend * b, int32_t *id, float *lp, Mat logits, SampleArgs args, const float *u),
   (b, id, lp, logits, args, u), cost_moves(cost_size(logits), 0))
OP(adamw, (Backend * b, void *w, uint16_t *low, float *m, float *v, const float *g, size_t n, AdamWArgs args),
   (b, w, low, m, v, g, n, args), cost_moves(4.0 * (double)n, 3.0 * (double)n))
OP(moments_widen, (Backend * b, float *m, float *v, StoredMoments from, size_t n), (b, m, v, from, n),
   cost_moves((from.form == MOMENTS_8BIT ? 0.5 : 1.0) * (double)n, 2.0 * (double)n))
OP(moments_narrow, (Backend * b, StoredMoments to, const float *m, const float *v, size_t n, MomentRounding r),
   (b, to, m, v, n, r), cost_moves(2.0 * (double)n, (to.form == MOMENTS_8BIT ? 0.5 : 1.0) * (double)n))
OP(sum_squares, (Backend * b, double *sum, const float *x, size_t n), (b, sum, x, n), cost_moves((double)n, 0))
OP(fill, (Backend * b, float *x, size_t n, float value), (b, x, n, value), cost_moves(0, (double)n))
OP(gate_up_fwd, (Backend * b, Mat h, Mat gu, Mat x, const int32_t *rows, const Mat *w, const int32_t *offsets, int E),
   (b, h, gu, x, rows, w, offsets, E),
   cost_product((double)h.rows, w[0], offsets ? cost_busy(HERE(offsets, E + 1), E) : 1,
                cost_floats(x.dtype, (double)h.rows *(double)x.cols), cost_size(gu) + cost_size(h)))
OP(sum_squares_list, (Backend * b, double *sums, const FloatRun *list, int count), (b, sums, list, count),
   cost_moves(cost_runs(list, count), 0))
OP(logits_fwd, (Backend * b, Mat logits, float *maxima, Mat x, Mat w), (b, logits, maxima, x, w),
   cost_product((double)x.rows, w, 1, cost_size(x), cost_size(logits) * (1 + 1.0 / MAXIMA_COLUMNS)))
