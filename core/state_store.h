/* Where the moments of a model's parts rest between two updates, when that is not memory: AdamW asks for them part by part
 * (core/optimizer.h). The weights of a part are the store's to keep too: at `give` they are those after the update. */
#ifndef CORE_STATE_STORE_H
#define CORE_STATE_STORE_H

#include "core/params_select.h"

typedef struct StateStore StateStore;
struct StateStore {
    /* First and second moments of a part, as they are stored, until `give`: those of its parameter i at byte
     * Param.moment - params_part_moments(t, part). */
    bool (*take)(StateStore *s, int part, void **m, void **v, Status *st);
    /* The part was updated. */
    bool (*give)(StateStore *s, int part, Status *st);
};

#endif
