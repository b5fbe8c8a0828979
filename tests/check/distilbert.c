/* DistilBERT's forward for masked words in plain C11, to be compared by `minidistil check`.

       cc -std=c11 -O2 tests/check/distilbert.c -o distilbert -lm
       ./distilbert FOLDER/model.safetensors inputs.safetensors theirs.safetensors

   inputs.safetensors comes from `minidistil trace FOLDER --inputs-only`: its tensors are the batch,
   its header gives sizes of the model and the name of each parameter in model.safetensors.
   theirs.safetensors receives every value computed here, under names of its own.

   A safetensors file is the length of its header (8 bytes, little-endian), the header in JSON,
   {"name":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}, ...}, and the numbers.

   B batch, T tokens, N = B*T, C channels, H heads, D = C/H, F feed-forward, V vocabulary, L layers.
   Weights are float32, (outputs, inputs); sums are in double precision. -DGELU_TANH, -DSCALE_BY_C,
   -DMASK_IGNORED, -DVARIANCE_UNBIASED and -DHEADS_INTERLEAVED plant a mistake each. */

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct { char *header, *numbers; } File;
typedef struct { char name[64]; long shape[4]; int axes; const void *data; } Tensor;

static File model, inputs;
static Tensor kept[1000]; /* for the output file */
static int count;
static long B, T, N, C, H, D, F, V, L;
static double eps;
static const int64_t *ids, *mask; /* (B,T) */

static void stop(const char *why, const char *what) {
    fprintf(stderr, "error: %s %s\n", why, what);
    exit(2);
}

static void *room(long bytes) {
    void *space = bytes < 0 ? NULL : calloc((size_t)bytes + 1, 1);
    if (!space) stop("there is no memory for", "an array");
    return space;
}

/* ------------------------------------------------------------ files */

static File read_file(const char *path) {
    FILE *f = fopen(path, "rb");
    int64_t length;
    if (!f || fread(&length, 8, 1, f) != 1 || fseek(f, 0, SEEK_END)) stop("cannot read", path);
    long rest = ftell(f) - 8 - length;
    fseek(f, 8, SEEK_SET);
    File file = {room(length), room(rest)};
    int whole = fread(file.header, length, 1, f) == 1 && fread(file.numbers, rest, 1, f) == 1;
    if (fclose(f) || !whole) stop("cannot read", path);
    return file;
}

/* The text that follows "key": in a header. */
static const char *after(const char *header, const char *key) {
    char quoted[300];
    snprintf(quoted, sizeof quoted, "\"%s\":", key);
    const char *found = strstr(header, quoted);
    if (!found) stop("a file does not hold", key);
    return found + strlen(quoted);
}

static Tensor tensor(File file, const char *name, const char *dtype) {
    const char *entry = after(file.header, name);
    char *at = (char *)after(entry, "shape") + 1;
    if (strncmp(after(entry, "dtype") + 1, dtype, 3)) stop("of another type is", name);
    Tensor x = {.data = file.numbers + atol(after(entry, "data_offsets") + 1)};
    for (; *at != ']' && x.axes < 4; at += *at == ',') x.shape[x.axes++] = strtol(at, &at, 10);
    return x;
}

/* A parameter by its role, such as "q", "weight" in layer 0; layer -1: outside the layers. */
static Tensor parameter(long layer, const char *of, const char *kind) {
    char role[100], name[300];
    int n = layer < 0 ? 0 : sprintf(role, "layer.%ld.", layer);
    snprintf(role + n, sizeof role - n, "%s.%s", of, kind);
    if (sscanf(after(inputs.header, role), "\"%299[^\"]", name) != 1) stop("there is no", role);
    return tensor(model, name, "F32");
}

/* Notes an array for the output file, named "L<layer>/<name>"; returns it. */
static float *keep(long layer, const char *name, float *x, int axes, const long *shape) {
    if (count == 1000) stop("there are too many arrays at", name);
    Tensor *new = &kept[count++];
    *new = (Tensor){.axes = axes, .data = x};
    memcpy(new->shape, shape, axes * sizeof *shape);
    int n = layer < 0 ? 0 : sprintf(new->name, "L%ld/", layer);
    snprintf(new->name + n, sizeof new->name - n, "%s", name);
    return x;
}

static float *keep_rows(long layer, const char *name, float *x, long width) {
    return keep(layer, name, x, 3, (long[]){B, T, width});
}

static long size_of(Tensor x) {
    long size = 1;
    for (int k = 0; k < x.axes; k++) size *= x.shape[k];
    return size;
}

static void write_file(const char *path) {
    char *header = room(200L * (count + 1)), *at = header;
    int64_t from = 0, length;
    FILE *f = fopen(path, "wb");
    if (!f) stop("cannot write", path);
    for (int i = 0; i < count; i++) {
        at += sprintf(at, "%c\"%s\":{\"dtype\":\"F32\",\"shape\":[", i ? ',' : '{', kept[i].name);
        for (int k = 0; k < kept[i].axes; k++)
            at += sprintf(at, "%s%ld", k ? "," : "", kept[i].shape[k]);
        at += sprintf(at, "],\"data_offsets\":[%lld,", (long long)from);
        from += 4 * size_of(kept[i]);
        at += sprintf(at, "%lld]}", (long long)from);
    }
    length = at - header + sprintf(at, "}");
    fwrite(&length, 8, 1, f);
    fwrite(header, 1, length, f);
    for (int i = 0; i < count; i++) fwrite(kept[i].data, 4, size_of(kept[i]), f);
    if (fclose(f)) stop("cannot write", path);
}

/* ------------------------------------------------------------ operations */

/* x (N,I), W (O,I), b (O,)  ->  x W' + b (N,O). */
static float *product(const float *x, Tensor W, const float *b) {
    long O = W.shape[0], I = W.shape[1];
    const float *w = W.data;
    float *y = room(4 * N * O);
    for (long n = 0; n < N; n++)
        for (long o = 0; o < O; o++) {
            double sum = b[o];
            for (long i = 0; i < I; i++) sum += (double)x[n * I + i] * w[o * I + i];
            y[n * O + o] = sum;
        }
    return y;
}

static float *linear(const float *x, long layer, const char *name) {
    return product(x, parameter(layer, name, "weight"), parameter(layer, name, "bias").data);
}

static float *add(const float *a, const float *b) {
    float *y = room(4 * N * C);
    for (long i = 0; i < N * C; i++) y[i] = a[i] + b[i];
    return y;
}

/* gamma (x - mean)/sqrt(variance + eps) + beta, over the channels. */
static float *layernorm(const float *x, long layer, const char *name) {
    const float *gamma = parameter(layer, name, "weight").data;
    const float *beta = parameter(layer, name, "bias").data;
    float *y = room(4 * N * C);
    for (long n = 0; n < N; n++) {
        const float *row = x + n * C;
        double mean = 0, variance = 0;
        for (long c = 0; c < C; c++) mean += row[c] / (double)C;
#ifdef VARIANCE_UNBIASED
        for (long c = 0; c < C; c++) variance += pow(row[c] - mean, 2) / (C - 1);
#else
        for (long c = 0; c < C; c++) variance += pow(row[c] - mean, 2) / C;
#endif
        for (long c = 0; c < C; c++)
            y[n * C + c] = gamma[c] * (row[c] - mean) / sqrt(variance + eps) + beta[c];
    }
    return y;
}

static float *gelu(const float *x, long size) {
    float *y = room(4 * size);
    for (long i = 0; i < size; i++) {
        double z = x[i];
#ifdef GELU_TANH
        y[i] = z / 2 * (1 + tanh(sqrt(2 / acos(-1)) * (z + 0.044715 * z * z * z)));
#else
        y[i] = z / 2 * (1 + erf(z / sqrt(2)));
#endif
    }
    return y;
}

/* The index in an array (B,T,C) of channel d of head h at row n. */
static long at(long n, long h, long d) {
#ifdef HEADS_INTERLEAVED
    return n * C + d * H + h;
#else
    return n * C + h * D + d;
#endif
}

/* softmax(q k'/sqrt(D)) v in each head; padding has weight 0. */
static float *attention(const float *q, const float *k, const float *v, long layer) {
    float *s = keep(layer, "scores", room(4 * N * H * T), 4, (long[]){B, H, T, T});
    float *p = keep(layer, "probs", room(4 * N * H * T), 4, (long[]){B, H, T, T});
    float *context = keep_rows(layer, "context", room(4 * N * C), C);
#ifdef SCALE_BY_C
    double root = sqrt(C);
#else
    double root = sqrt(D);
#endif
    for (long b = 0; b < B; b++)
        for (long h = 0; h < H; h++)
            for (long n = b * T; n < (b + 1) * T; n++, s += T, p += T) {
                double sum = 0, largest = -INFINITY;
                for (long u = 0; u < T; u++) {
                    double dot = 0;
                    for (long d = 0; d < D; d++)
                        dot += (double)q[at(n, h, d)] * k[at(b * T + u, h, d)];
                    s[u] = dot / root;
                    largest = fmax(largest, s[u]);
                }
                for (long u = 0; u < T; u++) {
                    p[u] = exp(s[u] - largest);
#ifndef MASK_IGNORED
                    p[u] *= mask[b * T + u];
#endif
                    sum += p[u];
                }
                for (long u = 0; u < T; u++) p[u] /= sum;
                for (long d = 0; d < D; d++) {
                    double mean = 0;
                    for (long u = 0; u < T; u++) mean += (double)p[u] * v[at(b * T + u, h, d)];
                    context[at(n, h, d)] = mean;
                }
            }
    return context;
}

/* ------------------------------------------------------------ the model */

static float *embeddings(void) {
    const float *word = parameter(-1, "embeddings.word", "weight").data;
    const float *position = parameter(-1, "embeddings.position", "weight").data;
    float *sum = room(4 * N * C);
    for (long i = 0; i < N * C; i++)
        sum[i] = word[ids[i / C] * C + i % C] + position[i / C % T * C + i % C];
    return keep_rows(-1, "embedded", layernorm(sum, -1, "embeddings.norm"), C);
}

static float *block(float *x, long i) {
    float *q = keep_rows(i, "query", linear(x, i, "q"), C);
    float *k = keep_rows(i, "key", linear(x, i, "k"), C);
    float *v = keep_rows(i, "value", linear(x, i, "v"), C);
    float *o = keep_rows(i, "attended", linear(attention(q, k, v, i), i, "out"), C);
    float *u = keep_rows(i, "norm1", layernorm(add(x, o), i, "attention_norm"), C);
    float *h = keep_rows(i, "wide", linear(u, i, "lin1"), F);
    float *g = keep_rows(i, "gelu", gelu(h, N * F), F);
    float *f = keep_rows(i, "narrow", linear(g, i, "lin2"), C);
    return keep_rows(i, "norm2", layernorm(add(u, f), i, "output_norm"), C);
}

/* The last layer of the masked-LM head is the word table once more. */
static void head(const float *x) {
    float *t = gelu(linear(x, -1, "transform"), N * C);
    float *n = keep_rows(-1, "head", layernorm(t, -1, "transform_norm"), C);
    Tensor word = parameter(-1, "embeddings.word", "weight");
    keep_rows(-1, "logits", product(n, word, parameter(-1, "decoder", "bias").data), V);
}

int main(int argc, char **argv) {
    if (argc != 4) stop("three files are needed, MODEL INPUTS OUTPUT, after", argv[0]);
    model = read_file(argv[1]), inputs = read_file(argv[2]);
    Tensor batch = tensor(inputs, "input.input_ids", "I64");
    Tensor word = parameter(-1, "embeddings.word", "weight");
    ids = batch.data, mask = tensor(inputs, "input.attention_mask", "I64").data;
    B = batch.shape[0], T = batch.shape[1], N = B * T, V = word.shape[0], C = word.shape[1];
    F = parameter(0, "lin1", "weight").shape[0], H = atol(after(inputs.header, "n_heads") + 1);
    D = C / H, L = atol(after(inputs.header, "n_layers") + 1);
    eps = atof(after(inputs.header, "eps") + 1);
    float *x = embeddings();
    for (long i = 0; i < L; i++) x = block(x, i);
    head(x);
    write_file(argv[3]);
}
