/* r1 doctor without a run: one page about this machine. */
#ifndef RECIPES_MACHINE_PAGE_H
#define RECIPES_MACHINE_PAGE_H

#include <stdbool.h>

#include "core/base/status.h"

/* Prints it, as text or JSON. measure: rates are measured though some are kept. Where a part cannot be had (a folder that is not
 * writable, no sandbox), its row says why. Fails only where no backend opens. */
bool machine_page_print(bool json, bool measure, Status *st);

#endif
