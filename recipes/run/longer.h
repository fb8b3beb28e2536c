/* A run whose recipe asks for more steps than it was begun with. */
#ifndef RECIPES_LONGER_H
#define RECIPES_LONGER_H

#include "recipes/run/run.h"

/* Reopens the first stage that is longer (run_folder_longer; "" : nothing is done): its result and its entry in summary.json go,
 * its last state stays, and the folder's recipe becomes the run's. Refuses, with what to do, when a later stage has been begun
 * or when no state was kept. Stopped at any point it can be called again. */
bool run_longer(Run *r, Status *st);

#endif
