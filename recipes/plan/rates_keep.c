/* Kept rates: a JSON file in the user's cache folder, an entry a machine and type, an entry a disk. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <time.h>

#include "cpu/cpu.h"
#include "data/json.h"
#include "recipes/plan/rates.h"

static const char *const product_names[RATE_PRODUCTS] = {"forward", "backward_x", "backward_w"};

/* $XDG_CACHE_HOME/r1/rates.json, or that in ~/.cache. False: there is neither. make: the folders too. */
static bool file_path(char *out, size_t size, bool make)
{
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    char folder[3072];
    int n = cache && cache[0] == '/' ? snprintf(folder, sizeof folder, "%s", cache)
            : home && home[0] == '/' ? snprintf(folder, sizeof folder, "%s/.cache", home)
                                     : -1;
    if (n < 0 || n >= (int)sizeof folder) return false;
    if (make) mkdir(folder, 0700);
    snprintf(out, size, "%s/r1", folder);
    if (make) mkdir(out, 0700);
    snprintf(out, size, "%s/r1/rates.json", folder);
    return true;
}

void rates_keys(RateKeys *out, const Machine *machine, const LoadedModel *m, const char *folder, size_t request)
{
    char name[128];
    struct statfs s = {0};
    ParamPlace at;
    const char *where = folder;
    machine_cpu_name(name, sizeof name);
    if (machine->cpu)
        snprintf(out->machine, sizeof out->machine, "%s, %s, %d threads, kernels %d, %s", name, cpu_isa(machine->cpu),
                 cpu_threads(machine->cpu), KERNELS_VERSION, dtype_name((DType)machine->options.dtype));
    else
        snprintf(out->machine, sizeof out->machine, "%.200s, kernels %d", machine->ops->describe(machine->backend),
                 KERNELS_VERSION);
    for (int i = 0; m && i < m->table.n && !where; i++)
        if (model_param_place(m, &m->table.params[i], &at)) where = at.path;
    if (!where || statfs(where, &s)) s = (struct statfs){0};
    int id[2];
    memcpy(id, &s.f_fsid, sizeof id);
    snprintf(out->disk, sizeof out->disk, "file system %lx-%08x%08x, reads of %zu KB, to %s", (unsigned long)s.f_type,
             (unsigned)id[0], (unsigned)id[1], request >> 10, m ? dtype_name((DType)machine->options.dtype) : "memory");
}

static double age_of(const Json *entry)
{
    double then = json_number(json_get(entry, "measured"));
    return then > 0 ? difftime(time(NULL), (time_t)then) : 0;
}

bool rates_load(Rates *r, const RateKeys *keys)
{
    char path[4096];
    Status ignored = {0};
    struct stat info;
    if (!file_path(path, sizeof path, false) || stat(path, &info)) return false;
    Json *all = json_read(path, &ignored);
    const Json *cpu = json_get(json_get(all, "machines"), keys->machine),
               *disk = json_get(json_get(all, "disks"), keys->disk);
    bool whole = cpu && json_number(json_get(cpu, "memory_update")) > 0;
    for (int k = 0; k < RATE_PRODUCTS && cpu; k++)
        for (int i = 0; i < RATE_ROWS; i++)
            whole &= json_number(json_at(json_get(cpu, product_names[k]), (size_t)i)) > 0;
    for (int k = 0; k < RATE_PRODUCTS && whole; k++)
        for (int i = 0; i < RATE_ROWS; i++)
            r->products[k][i] = json_number(json_at(json_get(cpu, product_names[k]), (size_t)i));
    if (whole) {
        r->memory_read = json_number(json_get(cpu, "memory_read"));
        r->memory_update = json_number(json_get(cpu, "memory_update"));
        r->cpu_age = age_of(cpu);
        r->cpu_assumed = false;
    }
    bool read = disk && json_number(json_get(disk, "read")) > 0;
    if (read) {
        r->disk_read = json_number(json_get(disk, "read"));
        r->disk_write = json_number(json_get(disk, "write"));
        r->disk_request = (size_t)json_integer(json_get(disk, "request"));
        r->disk_age = age_of(disk);
        r->disk_assumed = false;
    }
    json_free(all);
    return whole && read;
}

static Json *cpu_json(const Rates *r)
{
    Json *o = json_new_object(), *rows = json_new_array();
    json_set(o, "measured", json_new_int((int64_t)time(NULL) - (int64_t)r->cpu_age));
    for (int i = 0; i < RATE_ROWS; i++) json_append(rows, json_new_int(rate_rows[i]));
    json_set(o, "rows", rows);
    for (int k = 0; k < RATE_PRODUCTS; k++) {
        Json *list = json_new_array();
        for (int i = 0; i < RATE_ROWS; i++) json_append(list, json_new_number(r->products[k][i]));
        json_set(o, product_names[k], list);
    }
    json_set(o, "memory_read", json_new_number(r->memory_read));
    json_set(o, "memory_update", json_new_number(r->memory_update));
    return o;
}

static Json *disk_json(const Rates *r)
{
    Json *o = json_new_object();
    json_set(o, "measured", json_new_int((int64_t)time(NULL) - (int64_t)r->disk_age));
    json_set(o, "request", json_new_int((int64_t)r->disk_request));
    json_set(o, "read", json_new_number(r->disk_read));
    json_set(o, "write", json_new_number(r->disk_write));
    return o;
}

/* all[name], an object, made where there is none. */
static void put(Json *all, const char *name, const char *key, Json *value)
{
    const Json *old = json_get(all, name);
    Json *list = json_is_object(old) ? json_copy(old) : json_new_object();
    json_set(list, key, value);
    json_set(all, name, list);
}

bool rates_keep(const Rates *r, const RateKeys *keys, char *path, size_t size, Status *st)
{
    char own[4096];
    struct stat info;
    Status ignored = {0};
    if (!path) path = own, size = sizeof own;
    if (!file_path(path, size, true)) return fail(st, "rates are not kept: neither HOME nor XDG_CACHE_HOME says where");
    Json *all = stat(path, &info) == 0 ? json_read(path, &ignored) : NULL;
    if (!json_is_object(all)) {
        if (all) json_free(all);
        all = json_new_object();
    }
    if (r->memory_update > 0 && !r->cpu_assumed) put(all, "machines", keys->machine, cpu_json(r));
    if (r->disk_read > 0 && !r->disk_assumed) put(all, "disks", keys->disk, disk_json(r));
    bool ok = json_write_file(all, path, st);
    json_free(all);
    return ok;
}
