/* What lies at a path instead of the file that was meant: pointers, web pages, archives, parts. */
#ifndef DATA_STAND_IN_H
#define DATA_STAND_IN_H

#include "core/base/status.h"

/* After reading a file failed: when it is a pointer of Git LFS or git-annex, a web page, an archive, a Parquet file, or by its
 * name a part of a split file, the sentence becomes "PATH is ...", with what to do. Otherwise st stays as it is. Returns
 * false, so that a reader can end with it. */
bool stand_in(const char *path, Status *st);

#endif
