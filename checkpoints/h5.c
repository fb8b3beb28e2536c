/* HDF5 files of plain arrays: the only file that sees the library. */
#include "checkpoints/h5.h"

#include <errno.h>
#include <hdf5.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/durable.h"
#include "core/base/check.h"

struct H5Writer {
    hid_t file, link_plist, dataset_plist;
    int error; /* errno of the first failure */
    char shown[1024];
};

struct H5Reader {
    hid_t file;
    char shown[1024];
    char path[32]; /* of the file that is open, whatever its name means by now; "": not known */
};

static void start_library(void)
{
    static bool started;
    if (started) return;
    started = true;
    H5dont_atexit();
    H5open();
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
}

/* Fields before the size: the other order fails. */
static hid_t bf16_type(void)
{
    static hid_t type;
    if (!type) {
        type = H5Tcopy(H5T_IEEE_F32LE);
        CHECK(H5Tset_fields(type, 15, 7, 8, 0, 7) >= 0 && H5Tset_size(type, 2) >= 0 && H5Tset_ebias(type, 127) >= 0);
    }
    return type;
}

static hid_t type_of(H5Type type)
{
    switch (type) {
    case H5_U8: return H5T_STD_U8LE;
    case H5_I32: return H5T_STD_I32LE;
    case H5_I64: return H5T_STD_I64LE;
    case H5_U64: return H5T_STD_U64LE;
    case H5_BF16: return bf16_type();
    case H5_F32: return H5T_IEEE_F32LE;
    default: return H5T_IEEE_F64LE;
    }
}

/* ---- Writing ---- */

static void writer_failed(H5Writer *w)
{
    if (w->error) return;
    int e = errno;
    w->error = e == ENOSPC || e == EDQUOT || e == EFBIG || e == EACCES || e == EROFS ? e : EIO;
}

/* Without HDF5's locks, which some file systems (NFS, Lustre) do not have: a file is never written in place, and a run folder
 * has a lock of its own. */
static hid_t file_access(void)
{
    hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    H5Pset_fclose_degree(access, H5F_CLOSE_STRONG);
#if H5_VERSION_GE(1, 10, 7)
    H5Pset_file_locking(access, false, true);
#endif
    return access;
}

H5Writer *h5_create(const char *path, const char *shown, size_t userblock, Status *st)
{
    start_library();
    H5Writer *w = calloc(1, sizeof *w);
    CHECK(w);
    hid_t create = H5Pcreate(H5P_FILE_CREATE), access = file_access();
    H5Pset_userblock(create, userblock);
    errno = 0;
    w->file = H5Fcreate(path, H5F_ACC_TRUNC, create, access);
    int error = errno ? errno : EIO;
    H5Pclose(create);
    H5Pclose(access);
    if (w->file < 0) {
        free(w);
        durable_fail(shown, error, st);
        return NULL;
    }
    snprintf(w->shown, sizeof w->shown, "%s", shown);
    w->link_plist = H5Pcreate(H5P_LINK_CREATE);
    H5Pset_create_intermediate_group(w->link_plist, 1);
    w->dataset_plist = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_alloc_time(w->dataset_plist, H5D_ALLOC_TIME_EARLY);
    H5Pset_fill_time(w->dataset_plist, H5D_FILL_TIME_NEVER);
    H5Pset_obj_track_times(w->dataset_plist, false); /* equal contents are equal files */
    return w;
}

/* A new dataset, or -1 with the failure noted; *count: its elements. */
static hid_t create_set(H5Writer *w, const char *name, H5Type type, int ndim, const uint64_t *shape, uint64_t *count)
{
    hsize_t dims[8] = {0};
    CHECK(ndim >= 0 && ndim <= 8);
    *count = 1;
    for (int i = 0; i < ndim; i++) dims[i] = shape[i], *count *= shape[i];
    errno = 0;
    hid_t space = ndim ? H5Screate_simple(ndim, dims, NULL) : H5Screate(H5S_SCALAR);
    hid_t set = H5Dcreate2(w->file, name, type_of(type), space, w->link_plist, w->dataset_plist, H5P_DEFAULT);
    H5Sclose(space);
    if (set < 0) writer_failed(w);
    return set;
}

void h5_write(H5Writer *w, const char *name, H5Type type, int ndim, const uint64_t *shape, const void *data)
{
    if (w->error) return;
    uint64_t count;
    hid_t set = create_set(w, name, type, ndim, shape, &count);
    if (set < 0) return;
    if (count && H5Dwrite(set, type_of(type), H5S_ALL, H5S_ALL, H5P_DEFAULT, data) < 0) writer_failed(w);
    else H5Dclose(set);
}

uint64_t h5_reserve(H5Writer *w, const char *name, H5Type type, int ndim, const uint64_t *shape, size_t *bytes)
{
    *bytes = 0;
    if (w->error) return 0;
    uint64_t count;
    hid_t set = create_set(w, name, type, ndim, shape, &count);
    if (set < 0) return 0;
    haddr_t at = count ? H5Dget_offset(set) : 0;
    H5Dclose(set);
    if (at == HADDR_UNDEF) writer_failed(w);
    else *bytes = count * H5Tget_size(type_of(type));
    return *bytes ? at : 0;
}

void h5_write_bytes(H5Writer *w, const char *name, const void *bytes, size_t n)
{
    h5_write(w, name, H5_U8, 1, (uint64_t[]){n}, bytes);
}

static void write_attr(H5Writer *w, const char *group, const char *name, hid_t type, const void *value)
{
    if (w->error) return;
    errno = 0;
    bool there = !strcmp(group, "/") || H5Lexists(w->file, group, H5P_DEFAULT) > 0;
    hid_t at = there ? H5Oopen(w->file, group, H5P_DEFAULT)
                     : H5Gcreate2(w->file, group, w->link_plist, H5P_DEFAULT, H5P_DEFAULT);
    hid_t space = H5Screate(H5S_SCALAR);
    hid_t attr = at < 0 ? -1 : H5Acreate2(at, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    if (attr < 0 || H5Awrite(attr, type, value) < 0) writer_failed(w);
    else {
        H5Aclose(attr);
        H5Oclose(at);
    }
    H5Sclose(space);
}

void h5_attr(H5Writer *w, const char *group, const char *name, H5Type type, const void *value)
{
    write_attr(w, group, name, type_of(type), value);
}

void h5_attr_text(H5Writer *w, const char *group, const char *name, const char *text)
{
    hid_t type = H5Tcopy(H5T_C_S1);
    H5Tset_size(type, strlen(text) + 1);
    H5Tset_cset(type, H5T_CSET_UTF8);
    write_attr(w, group, name, type, text);
    H5Tclose(type);
}

void h5_link(H5Writer *w, const char *name, const char *file, const char *target)
{
    if (w->error) return;
    errno = 0;
    if (H5Lcreate_external(file, target, w->file, name, w->link_plist, H5P_DEFAULT) < 0) writer_failed(w);
}

/* Gives the disk back what a file took that HDF5 must not close any more. */
static void cut_file(hid_t file)
{
    int *fd = NULL;
    if (H5Fget_vfd_handle(file, H5P_DEFAULT, (void **)&fd) >= 0 && fd && ftruncate(*fd, 0)) return;
}

bool h5_close(H5Writer *w, Status *st)
{
    errno = 0;
    if (!w->error && H5Fflush(w->file, H5F_SCOPE_GLOBAL) < 0) writer_failed(w);
    if (w->error) cut_file(w->file);
    else if (H5Fclose(w->file) < 0) writer_failed(w);
    H5Pclose(w->link_plist);
    H5Pclose(w->dataset_plist);
    bool ok = w->error ? durable_fail(w->shown, w->error, st) : true;
    free(w);
    return ok;
}

/* ---- Reading ---- */

H5Reader *h5_open(const char *path, const char *shown, Status *st)
{
    start_library();
    hid_t access = file_access();
    hid_t file = H5Fopen(path, H5F_ACC_RDONLY, access);
    H5Pclose(access);
    if (file < 0) {
        fail(st, "%s cannot be opened as an HDF5 file: check the path, or take an earlier copy", shown);
        return NULL;
    }
    H5Reader *r = calloc(1, sizeof *r);
    CHECK(r);
    r->file = file;
    snprintf(r->shown, sizeof r->shown, "%s", shown);
    int *fd = NULL;
    if (H5Fget_vfd_handle(file, H5P_DEFAULT, (void **)&fd) >= 0 && fd)
        snprintf(r->path, sizeof r->path, "/proc/self/fd/%d", *fd);
    return r;
}

void h5_reader_close(H5Reader *r)
{
    if (!r) return;
    H5Fclose(r->file);
    free(r);
}

/* A link to an object of this very file: soft and external links, which lead elsewhere, are not followed. */
static bool is_here(H5Reader *r, const char *name)
{
    H5L_info_t info;
    return H5Lexists(r->file, name, H5P_DEFAULT) > 0 && H5Lget_info(r->file, name, &info, H5P_DEFAULT) >= 0 &&
           info.type == H5L_TYPE_HARD;
}

/* H5Lexists fails unless each group on the way is there. */
bool h5_has(H5Reader *r, const char *name)
{
    char part[1024];
    if (!strcmp(name, "/")) return true;
    if (strlen(name) >= sizeof part) return false;
    for (const char *slash = strchr(name, '/'); slash; slash = strchr(slash + 1, '/')) {
        snprintf(part, sizeof part, "%.*s", (int)(slash - name), name);
        if (*part && !is_here(r, part)) return false;
    }
    return is_here(r, name);
}

static bool same_type(hid_t found, H5Type type)
{
    bool same = H5Tequal(found, type_of(type)) > 0;
    H5Tclose(found);
    return same;
}

/* Whether the file holds the bytes of all `count` elements: a dataset may announce more than was ever stored (chunks
 * that were not written, data in other files), which would be asked of memory. */
static bool holds(H5Reader *r, hid_t set, H5Type type, uint64_t count)
{
    hsize_t size = 0, bytes;
    if (__builtin_mul_overflow((hsize_t)count, (hsize_t)H5Tget_size(type_of(type)), &bytes)) return false;
    if (bytes == 0) return true;
    hid_t made = H5Dget_create_plist(set);
    H5D_layout_t layout = H5Pget_layout(made);
    bool own = H5Pget_external_count(made) == 0 && H5Pget_nfilters(made) == 0;
    H5Pclose(made);
    if (!own || H5Fget_filesize(r->file, &size) < 0 || bytes > size || H5Dget_storage_size(set) < bytes) return false;
    if (layout == H5D_COMPACT) return true;
    haddr_t at = layout == H5D_CONTIGUOUS ? H5Dget_offset(set) : HADDR_UNDEF;
    return at != HADDR_UNDEF && at <= size && bytes <= size - at;
}

bool h5_shape(H5Reader *r, const char *name, H5Type type, int *ndim, uint64_t shape[8])
{
    hid_t set = h5_has(r, name) ? H5Dopen2(r->file, name, H5P_DEFAULT) : -1;
    if (set < 0) return false;
    hid_t space = H5Dget_space(set);
    hsize_t dims[H5S_MAX_RANK];
    *ndim = H5Sget_simple_extent_dims(space, dims, NULL);
    uint64_t count = 1;
    bool ok = *ndim >= 0 && *ndim <= 8 && same_type(H5Dget_type(set), type);
    for (int i = 0; ok && i < *ndim; i++) {
        shape[i] = dims[i];
        ok = !__builtin_mul_overflow(count, shape[i], &count);
    }
    ok = ok && H5Sget_simple_extent_type(space) != H5S_NULL && holds(r, set, type, count);
    H5Sclose(space);
    H5Dclose(set);
    return ok;
}

bool h5_read(H5Reader *r, const char *name, H5Type type, uint64_t count, void *out, Status *st)
{
    return h5_read_rows(r, name, type, (H5Rows){count, 0, count}, out, st);
}

/* Rows of a dataset as a selection of its space; false: they are no whole rows. */
static bool select_rows(hid_t space, int ndim, const uint64_t *shape, H5Rows rows)
{
    hsize_t start[8] = {0}, size[8];
    uint64_t each = shape[0] ? rows.count / shape[0] : 1;
    for (int i = 1; i < ndim; i++) size[i] = shape[i];
    start[0] = rows.from / each;
    size[0] = rows.n / each;
    return rows.from % each == 0 && rows.n % each == 0 && start[0] + size[0] <= shape[0] &&
           H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, size, NULL) >= 0;
}

static bool read_rows(hid_t set, int ndim, const uint64_t *shape, hid_t type, H5Rows rows, void *out)
{
    hsize_t n = rows.n;
    if (n == rows.count) return H5Dread(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, out) >= 0;
    hid_t space = H5Dget_space(set), memory = H5Screate_simple(1, &n, NULL);
    bool ok = select_rows(space, ndim, shape, rows) && H5Dread(set, type, memory, space, H5P_DEFAULT, out) >= 0;
    H5Sclose(memory);
    H5Sclose(space);
    return ok;
}

bool h5_read_rows(H5Reader *r, const char *name, H5Type type, H5Rows rows, void *out, Status *st)
{
    int ndim;
    uint64_t shape[8], found = 1, count = rows.count;
    if (!h5_shape(r, name, type, &ndim, shape))
        return fail(
            st,
            "%s: %s is missing, of another type or not as large as it says: the file is damaged or of another version",
            r->shown, name);
    for (int i = 0; i < ndim; i++) found *= shape[i];
    if (found != count)
        return fail(st, "%s: %s has %llu elements where %llu are needed: the file belongs to another model", r->shown,
                    name, (unsigned long long)found, (unsigned long long)count);
    if (rows.n == 0) return true;
    hid_t set = H5Dopen2(r->file, name, H5P_DEFAULT);
    bool ok = read_rows(set, ndim, shape, type_of(type), rows, out);
    H5Dclose(set);
    return ok ? true : fail(st, "%s: %s cannot be read: the disk or the file is damaged", r->shown, name);
}

bool h5_place(H5Reader *r, const char *name, H5Type type, uint64_t count, H5Place *out)
{
    int ndim;
    uint64_t shape[8], found = 1;
    if (!r->path[0] || !h5_shape(r, name, type, &ndim, shape)) return false;
    for (int i = 0; i < ndim; i++) found *= shape[i];
    hid_t set = H5Dopen2(r->file, name, H5P_DEFAULT), made = H5Dget_create_plist(set);
    bool side_by_side = H5Pget_layout(made) == H5D_CONTIGUOUS;
    haddr_t at = side_by_side ? H5Dget_offset(set) : HADDR_UNDEF;
    H5Pclose(made);
    H5Dclose(set);
    if (at == HADDR_UNDEF || found != count) return false;
    *out = (H5Place){r->path, r->shown, at};
    return true;
}

char *h5_read_bytes(H5Reader *r, const char *name, size_t *length)
{
    int ndim;
    uint64_t shape[8];
    if (!h5_shape(r, name, H5_U8, &ndim, shape) || ndim != 1) return NULL;
    char *bytes = malloc(shape[0] + 1);
    CHECK(bytes);
    bytes[shape[0]] = 0;
    *length = shape[0];
    if (h5_read(r, name, H5_U8, shape[0], bytes, NULL)) return bytes;
    free(bytes);
    return NULL;
}

static hid_t open_attr(H5Reader *r, const char *group, const char *name)
{
    if (!h5_has(r, group) || H5Aexists_by_name(r->file, group, name, H5P_DEFAULT) <= 0) return -1;
    return H5Aopen_by_name(r->file, group, name, H5P_DEFAULT, H5P_DEFAULT);
}

bool h5_read_attr(H5Reader *r, const char *group, const char *name, H5Type type, void *value)
{
    hid_t attr = open_attr(r, group, name);
    if (attr < 0) return false;
    bool ok = same_type(H5Aget_type(attr), type) && H5Aget_storage_size(attr) == H5Tget_size(type_of(type)) &&
              H5Aread(attr, type_of(type), value) >= 0;
    H5Aclose(attr);
    return ok;
}

bool h5_read_attr_text(H5Reader *r, const char *group, const char *name, char *text, size_t size)
{
    hid_t attr = open_attr(r, group, name);
    if (attr < 0) return false;
    hid_t type = H5Aget_type(attr);
    bool ok = H5Tget_class(type) == H5T_STRING && H5Tis_variable_str(type) == 0 && H5Tget_size(type) <= size &&
              H5Aget_storage_size(attr) == H5Tget_size(type) && H5Aread(attr, type, text) >= 0;
    if (ok) text[H5Tget_size(type) - 1] = 0;
    H5Tclose(type);
    H5Aclose(attr);
    return ok;
}

typedef struct Visit {
    bool (*visit)(const char *name, void *context);
    void *context;
} Visit;

static herr_t visit_link(hid_t group, const char *name, const H5L_info_t *info, void *data)
{
    (void)group;
    const Visit *v = data;
    if (info->type != H5L_TYPE_HARD) return 0;
    return v->visit(name, v->context) ? 0 : 1;
}

void h5_each(H5Reader *r, const char *group, bool (*visit)(const char *name, void *context), void *context)
{
    if (!h5_has(r, group)) return;
    Visit v = {visit, context};
    H5Literate_by_name(r->file, group, H5_INDEX_NAME, H5_ITER_INC, NULL, visit_link, &v, H5P_DEFAULT);
}

const char *h5_library(void)
{
    static char text[32];
    unsigned major = 0, minor = 0, release = 0;
    H5get_libversion(&major, &minor, &release);
    snprintf(text, sizeof text, "HDF5 %u.%u.%u", major, minor, release);
    return text;
}
