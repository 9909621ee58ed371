/* SPDX-License-Identifier: Apache-2.0
 * The only area that speaks to llama.cpp's and ggml's file formats: reading GGUF files without
 * trusting them, planning and streaming new ones, and telling models apart by hash. */
#ifndef SOOTHE_ENGINE_H
#define SOOTHE_ENGINE_H

#include "base/base.h"
#include "gguf.h"
#include "soothe.h"

/* ---- reading: gguf_file.c -------------------------------------------------------------------- */

/* An open GGUF whose tensor table was checked against the length of the file. */
struct soothe__gguf {
    struct gguf_context *meta;
    FILE                *stream;
    char                *path;
};

/* errors  SOOTHE_E_IO cannot be opened; SOOTHE_E_FORMAT not a GGUF, or truncated;
 *         SOOTHE_E_UNSUPPORTED one of several splits                                             */
enum soothe_status soothe__gguf_open(struct soothe__gguf *g, const char *path, struct soothe_error *err);
void               soothe__gguf_close(struct soothe__gguf *g); /* also of a zeroed one */

/* find: false / NULL / the given default if the key is absent or of another type. */
bool        soothe__gguf_find_u32(const struct soothe__gguf *g, const char *key, uint32_t *out);
bool        soothe__gguf_find_f32(const struct soothe__gguf *g, const char *key, float *out);
bool        soothe__gguf_find_bool(const struct soothe__gguf *g, const char *key, bool *out);
const char *soothe__gguf_find_string(const struct soothe__gguf *g, const char *key);
/* As find_u32 with the architecture's name put before: "%s.block_count". */
bool soothe__gguf_find_arch_u32(const struct soothe__gguf *g, const char *suffix, uint32_t *out);

int64_t soothe__gguf_n_elements(const struct soothe__gguf *g, int64_t i_tensor);
/* Bytes [offset, offset+size) of a tensor. */
enum soothe_status soothe__gguf_read(const struct soothe__gguf *g, int64_t i_tensor, size_t offset, void *out,
                                     size_t size, struct soothe_error *err);
/* Can a tensor of that type be read as numbers? And n of them (whole blocks of the type) out of their bytes. */
bool soothe__type_readable(enum ggml_type type);
void soothe__dequantise(float *out, const void *bytes, enum ggml_type type, int64_t n);
/* A whole tensor, dequantised, fresh and owned by the caller.  errors  also SOOTHE_E_NUMERIC */
enum soothe_status soothe__gguf_read_f32(const struct soothe__gguf *g, int64_t i_tensor, float **out,
                                         struct soothe_error *err);
/* The same by name and with its element count checked; missing tensors are an error that names them. */
enum soothe_status soothe__gguf_get_f32(const struct soothe__gguf *g, const char *name, int64_t n_elements, float **out,
                                        struct soothe_error *err);

/* ---- telling models apart: model_identity.c --------------------------------------------------- */

/* Of a decoder: what it is called, how wide, how deep; strings are owned by g. */
struct soothe__model_facts {
    const char *architecture;
    const char *name;
    uint32_t    n_blocks;
    uint32_t    d;
    uint32_t    n_vocab;
};
enum soothe_status soothe__model_facts(struct soothe__model_facts *facts, const struct soothe__gguf *g,
                                       struct soothe_error *err);

/* Equal for two files exactly if they split text into the same token ids. */
void soothe__tokenizer_hash(char hex[65], const struct soothe__gguf *g);
/* Equal for all quantised files of one base model: architecture, shape, vocabulary and the final
 * norm's weights (kept in F32 by every quantisation). */
enum soothe_status soothe__model_fingerprint(char hex[65], const struct soothe__gguf *g, struct soothe_error *err);
/* Adds name and data of tensor i to a hash. */
enum soothe_status soothe__gguf_hash_tensor(struct soothe__sha256 *h, const struct soothe__gguf *g, int64_t i,
                                            struct soothe_error *err);
/* Of the names and data of all tensors in the file's order: equal for two files whose tensors are the same. */
enum soothe_status soothe__tensors_hash(char hex[65], const struct soothe__gguf *g, struct soothe_error *err);
/* Of the bytes that a cut to n_blocks takes over: embedding, final norm, blocks. */
enum soothe_status soothe__cut_hash(char hex[65], const struct soothe__gguf *g, uint32_t n_blocks,
                                    struct soothe_error *err);

/* N of a tensor named blk.N.…, or -1. */
int32_t soothe__block_of_tensor(const char *name);

/* ---- writing: gguf_plan.c ----------------------------------------------------------------------- */

/* A GGUF to be: metadata in .meta (set it with gguf_set_…), tensors by the two functions below.
 * Nothing is read or written before soothe__gguf_plan_write, which streams. */
struct soothe__row_change { /* of a tensor's rows on their way into the new file */
    /* rows [n_rows x row_size bytes] are rows first_row …, in ascending order: those copied, to be changed in place,
     * or, of a tensor that is made, room to be filled */
    enum soothe_status (*change)(void *user, int64_t first_row, int64_t n_rows, void *rows, struct soothe_error *err);
    void  *user;
    size_t row_size;
};
struct soothe__planned_tensor {
    const struct soothe__gguf *from; /* copied bytewise from here, or NULL: */
    int64_t                    i_from;
    void                      *data; /* owned by the plan, or NULL: made by change */
    size_t                     size;
    struct soothe__row_change  change; /* .change NULL: none */
};
struct soothe__gguf_plan {
    struct gguf_context           *meta;
    struct ggml_context           *shapes;
    struct soothe__planned_tensor *tensors;
    size_t                         n_tensors, capacity;
};

enum soothe_status soothe__gguf_plan_new(struct soothe__gguf_plan *plan, size_t n_tensors_max,
                                         struct soothe_error *err);
void               soothe__gguf_plan_free(struct soothe__gguf_plan *plan);
/* Takes a tensor over unchanged; from must stay open until the plan is written. */
enum soothe_status soothe__gguf_plan_copy(struct soothe__gguf_plan *plan, const struct soothe__gguf *from,
                                          int64_t i_tensor, struct soothe_error *err);
/* The tensor planned last, which was taken over, is changed row by row as it is written. */
void soothe__gguf_plan_change_rows(struct soothe__gguf_plan *plan, const struct soothe__row_change *change);
/* Adds values as a tensor of n_dims <= 2 (ne[0] fastest), converted to type. Where a row does not fit the
 * type's block size, F16 is taken instead. */
enum soothe_status soothe__gguf_plan_add(struct soothe__gguf_plan *plan, const char *name, const float *values,
                                         int n_dims, const int64_t *ne, enum ggml_type type, struct soothe_error *err);
/* Adds a tensor of ne[1] rows of ne[0] values that are made as they are written. */
enum soothe_status soothe__gguf_plan_make(struct soothe__gguf_plan *plan, const char *name, enum ggml_type type,
                                          const int64_t ne[2], const struct soothe__row_change *make,
                                          struct soothe_error *err);
/* Adds (ne[1], ne[0]) bytes as they are, as a tensor of type I8. */
enum soothe_status soothe__gguf_plan_add_i8(struct soothe__gguf_plan *plan, const char *name, const int8_t *values,
                                            const int64_t ne[2], struct soothe_error *err);
enum soothe_status soothe__gguf_plan_write(const struct soothe__gguf_plan *plan, FILE *stream, const char *path,
                                           struct soothe_error *err);
/* Writes the metadata over that of the file just written; it must have kept its size. */
enum soothe_status soothe__gguf_plan_rewrite_metadata(const struct soothe__gguf_plan *plan, FILE *stream,
                                                      const char *path, struct soothe_error *err);
/* The same under a name, beside and renamed. */
enum soothe_status soothe__gguf_plan_save(const struct soothe__gguf_plan *plan, const char *path,
                                          struct soothe_error *err);
/* The metadata of g cut to n_blocks blocks: block_count and all per-block arrays. */
enum soothe_status soothe__gguf_plan_cut_metadata(struct soothe__gguf_plan *plan, const struct soothe__gguf *g,
                                                  uint32_t n_blocks, struct soothe_error *err);

/* ---- files of our own kinds: gguf_kind.c --------------------------------------------------------- */

struct soothe__gguf_kind {
    const char *type; /* general.type */
    uint32_t    version;
    const char *noun;     /* "probe": of what the format is          */
    const char *is_other; /* "is not a probe": said of other files   */
    const char *maker;    /* the command that writes such files      */
};
/* errors  SOOTHE_E_FORMAT a file of another kind; SOOTHE_E_UNSUPPORTED of another version */
enum soothe_status soothe__gguf_check_kind(const struct soothe__gguf *g, const struct soothe__gguf_kind *kind,
                                           struct soothe_error *err);
/* The keys that every file of a kind begins with. */
void soothe__gguf_set_kind(struct gguf_context *meta, const struct soothe__gguf_kind *kind, const char *name);

struct soothe__fact { /* provenance: one key of "soothe.training.…" */
    const char *key;
    const char *text; /* NULL: the number counts */
    double      number;
};
void soothe__gguf_set_facts(struct gguf_context *meta, const struct soothe__fact *facts, size_t n);

#endif /* SOOTHE_ENGINE_H */
