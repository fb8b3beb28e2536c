/* What came with a model and goes out with it again: files and tensors that no part of this program reads. */
#ifndef RECIPES_ATTACHED_H
#define RECIPES_ATTACHED_H

#include "checkpoints/attachments.h"
#include "core/policy.h"

/* The policy takes them over. source (NULL: none): the file that they may point into, closed with the policy. */
void policy_attach(Policy *p, Attachments *attached, StFile *source);
/* A view; empty where nothing came. */
Attachments policy_attached(const Policy *p);

#endif
