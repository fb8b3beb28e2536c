/* What came with a model and goes out with it again: files and tensors that no part of this program reads. */
#ifndef RECIPES_ATTACHED_H
#define RECIPES_ATTACHED_H

#include "checkpoints/model_file.h"
#include "core/policy.h"

/* The policy takes m's over, with the open file that they may point into. */
void policy_attach(Policy *p, LoadedModel *m);
/* A view; empty where nothing came. */
Attachments policy_attached(const Policy *p);

/* p was made of m, whose files are still open (before policy_attach): notes which parameters are a base's. It is m's own
 * base where m has one, else m itself where m is `source`, a model that no stage of this run made; else there is none. */
bool policy_note_base(Policy *p, const LoadedModel *m, bool source, Status *st);
/* What a checkpoint of p says of it: meta->base and meta->held (caller frees held); NULL where it holds everything, which
 * it does too when all is trained. */
void policy_base(const Policy *p, CheckpointMeta *meta);

#endif
