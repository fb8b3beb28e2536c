/* How fast this machine computes and reads: measured and kept in the user's cache folder, or assumed by a person. */
#ifndef RECIPES_RATES_H
#define RECIPES_RATES_H

#include "recipes/model/placing.h"
#include "recipes/plan/plan.h"

enum { RATE_ROWS = 6, RATE_PRODUCTS = 3 };
extern const int rate_rows[RATE_ROWS]; /* rows that meet one weight matrix */

/* FLOP/s and bytes/s; 0: not known. */
typedef struct Rates {
    double products[RATE_PRODUCTS][RATE_ROWS]; /* y = x w^T, dx = dy w, dw += dy^T x in the type of the plan */
    double memory_read, memory_update;
    double disk_read, disk_write; /* past the page cache: by the two threads and at the sizes of the pool */
    size_t disk_request;          /* bytes of a read */
    double cpu_age, disk_age;     /* seconds since they were measured */
    bool cpu_assumed, disk_assumed;
    bool at_peaks; /* a card's probed limits: what is computed takes longer */
    bool emulated; /* and means nothing */
} Rates;

/* What a rate is worth for: a machine (processor, instruction set, threads, type; or card and
 * its products), and a disk (file system, size of a
 * read, type). */
typedef struct RateKeys {
    char machine[320], disk[128];
} RateKeys;
/* m NULL: no model; the disk is then that of `folder`. */
void rates_keys(RateKeys *out, const Machine *machine, const LoadedModel *m, const char *folder, size_t request);

/* Numbers of an ordinary machine with these processors and type, for those who may not wait: all of them assumed. */
void rates_assume(Rates *r, const Machine *machine);
/* Fills what the file of kept rates has for these keys; the rest stays as it is. False: it lacked the processor's or
 * the disk's. */
bool rates_load(Rates *r, const RateKeys *keys);
/* Writes them there. Fails, with the sentence, where that cannot be; path (NULL: not wanted) is then or else its name. */
bool rates_keep(const Rates *r, const RateKeys *keys, char *path, size_t size, Status *st);

/* A device's, by its probed limits (model/limits.h): the kept ones, or (`again`, or there are none) probed now and
 * kept; those of the emulated device are not. */
bool rates_device(Rates *r, const Machine *machine, bool again, Status *st);
/* Products of few rows read the weights, of `type`, others compute. */
void rates_of_peaks(Rates *r, double flops, double read, double update, DType type);

/* Some three seconds of the processor: products by the rows that meet a matrix, reading and updating memory. */
bool rates_measure_cpu(Rates *r, const Machine *machine, Status *st);
/* Up to two seconds: experts of m that are no holes, by the reader that a run uses. disk_read stays 0 where m has none. */
bool rates_measure_model(Rates *r, const LoadedModel *m, Form form, Status *st);
/* The kept rates of this machine and of m's experts in reads of `slot` bytes; what is missing of them (again: all) is measured,
 * which is said, and kept. m NULL: the processor's alone. */
bool rates_know(Rates *r, const Machine *machine, const LoadedModel *m, Form form, size_t slot, bool again, Status *st);
/* A file of 256 MB in `folder`, written, read and removed. */
bool rates_measure_folder(Rates *r, const char *folder, Status *st);

/* Whether a part of m lies in a hole of its file, which costs no disk time. */
typedef struct HoleFinder {
    char path[4096];
    int fd;
} HoleFinder;
bool rates_hole(HoleFinder *f, const LoadedModel *m, int part);
void rates_hole_end(HoleFinder *f);

/* FLOP/s of product k with `rows` rows a matrix, between the measured ones by the logarithm. */
double rates_product(const Rates *r, int k, double rows);
/* Seconds of a step's ops. Tokens: of the step; those of a decode step are `ops` of two tokens, halved, at one row a matrix. */
double rates_seconds(const Rates *r, const PlanOps *ops, const ModelConfig *c, double tokens);
double rates_token_seconds(const Rates *r, const PlanOps *ops);

/* Experts of a layer that have rows when `tokens` tokens choose K of E, each equally often: E (1 - (1 - K / E)^tokens). */
double rates_busy(const ModelConfig *c, double tokens);

#endif
