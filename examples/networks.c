/* Answers to exported questions in C99, with nothing but its library: chains of Linear layers.
       cc -std=c99 -O2 -o networks networks.c -lm
       ekfac-ref export DIR --layer Linear; ./networks DIR; ekfac-ref judge DIR
   One sample at a time: values are [T, d]; forward once, backward once for each column. */
#include <math.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#define EACH(i, n) for (int i = 0; i < (n); i++)
/* JSON: a number, a text, or a list of values, which in an object have keys. */
typedef struct J { char kind, *key, *text; double number; int n; struct J *first, *next; } J;
static const char *at, *why; static jmp_buf refused;
static void refuse(const char *reason) { why = reason, longjmp(refused, 1); }
static double *reals(int n) { return calloc(n + 1, sizeof(double)); }
static void blank(void) { while (*at && strchr(" \n\r\t,:", *at)) at++; }
static char *text(void) {
    const char *end = strchr(++at, '"');
    char *s = calloc(end - at + 1, 1);
    return memcpy(s, at, end - at), at = end + 1, s;
}
static J *value(void) {
    J *v = calloc(1, sizeof(J)), **last = &v->first;
    blank(), v->kind = *at;
    if (*at == '[' || *at == '{') {
        for (at++, blank(); *at && !strchr("]}", *at); blank(), v->n++, last = &(*last)->next) {
            char *key = v->kind == '{' ? text() : NULL;
            *last = value(), (*last)->key = key;
        }
        at++;
    } else if (*at == '"') v->text = text();
    else if (strchr("tfn", *at)) while (*at >= 'a' && *at <= 'z') at++;
    else v->number = strtod(at, (char **)&at);
    return v;
}
static J *get(J *of, const char *key) {
    for (J *v = of->first; v; v = v->next) if (!strcmp(v->key, key)) return v;
    return NULL;
}
static int is(J *v, const char *word) { return v && v->text && !strcmp(v->text, word); }
static int fill(J *v, double *x) { /* all numbers of nested lists; how many there are */
    int n = v->kind != '[';
    if (v->kind == '"') refuse("a number is NaN or infinite");
    if (n && x) *x = v->number;
    for (J *k = v->first; k; k = k->next) n += fill(k, x ? x + n : NULL);
    return n;
}
static double *numbers(J *v) { double *x = reals(fill(v, NULL)); return fill(v, x), x; }
static J *read_json(const char *folder, const char *name) {
    char path[1000], *s = NULL;
    int n = 0, more;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "rb");
    if (!f) perror(path), exit(1);
    do s = realloc(s, n + 4097), n += more = fread(s + n, 1, 4096, f); while (more);
    return fclose(f), s[n] = 0, at = s, value();
}
/* A layer: sums of what it saw, and all its G. A step: y [T, to] of x, g the gradient by y. */
typedef struct { J *name; int o, i, rows, columns; double *A, *B, *G; } Layer;
typedef struct { double *x, *y, *g, *slope, *W, *b; int T, d, to, layer; } Step;
static Layer layers[64]; static Step steps[64]; /* of which the first is the input */
static int count, depth, N, no;
static void forward(J *question, double *x, int T, int d) {
    J *parameters = get(question, "parameters"), *node = get(question, "network")->first;
    steps[0] = (Step){.y = x, .T = T, .to = d, .layer = -1};
    for (depth = 1; node; node = node->next, depth++) {
        Step *s = &steps[depth], *from = s - 1;
        J *op = get(node, "op");
        int tanh_ = is(op, "tanh"), sigmoid = is(op, "sigmoid"), relu = is(op, "relu");
        int n = from->T * from->to;
        *s = (Step){.x = from->y, .T = from->T, .d = from->to, .to = from->to, .layer = -1};
        if (is(op, "linear")) {
            J *W = get(parameters, get(node, "weight")->text), *bias = get(node, "bias");
            s->W = numbers(W), s->to = W->n;
            if (bias->text) s->b = numbers(get(parameters, bias->text));
            EACH(k, count) if (is(get(node, "layer"), layers[k].name->text)) s->layer = k;
        } else if (is(op, "flatten")) s->to = n, s->T = 1;
        else if (!tanh_ && !sigmoid && !relu) refuse("an operation of another kind");
        if (depth == 63) refuse("more than 62 operations");
        s->y = reals(s->T * s->to), s->g = reals(s->T * s->to), s->slope = reals(n);
        EACH(j, s->W ? s->T * s->to : n) {
            double v = s->x[s->W ? 0 : j], y = tanh_ ? tanh(v) : sigmoid ? 1 / (1 + exp(-v)) : v;
            if (relu) y = fmax(v, 0);
            if (s->W) y = s->b ? s->b[j % s->to] : 0;
            else s->slope[j] = tanh_ ? 1 - y * y : sigmoid ? y * (1 - y) : relu ? v > 0 : 1;
            EACH(i, s->W ? s->d : 0) y += s->W[j % s->to * s->d + i] * s->x[j / s->to * s->d + i];
            s->y[j] = y;
        }
    }
}
static void backward(void) { /* from the g of the last step to that of all others */
    for (Step *s = &steps[depth - 1]; s > steps + 1; s--) EACH(j, s[-1].T * s->d) {
        double sum = s->W ? 0 : s->g[j] * s->slope[j];
        EACH(o, s->W ? s->to : 0) sum += s->g[j / s->d * s->to + o] * s->W[o * s->d + j % s->d];
        s[-1].g[j] = sum;
    }
}
static void gather(int reduce, int first) { /* what the layers saw of a column, to A, B and G */
    for (Layer *L = layers; L < layers + count; L++) {
        int o = L->o, i = L->i, P = o * i, T = 0;
        L->G = realloc(L->G, (L->columns + 1) * P * sizeof(double));
        double *a = reals(i), *G = memset(L->G + P * L->columns++, 0, P * sizeof(double));
        for (Step *s = steps; s < steps + depth; s++) EACH(t, s->layer == L - layers ? s->T : 0) {
            double *g = s->g + t * o;
            memcpy(a, s->x + t * s->d, s->d * sizeof(double));
            if (i > s->d) a[s->d] = s->b != NULL;
            EACH(p, o) EACH(q, i) G[p * i + q] += g[p] * a[q];
            EACH(p, o) EACH(q, o) L->B[p * o + q] += g[p] * g[q];
            EACH(p, i) EACH(q, i) L->A[p * i + q] += first * a[p] * a[q];
            if (L->rows += first, T++ && reduce) refuse("reduce, with several positions");
        }
    }
}
static void sample(J *question, J *inputs, J *target) {
    J *kind = get(question, "likelihood"), *row = inputs;
    int classes = is(kind, "Categorical"), gauss = is(kind, "Gaussian"), rate = is(kind, "Poisson");
    while (row->first->kind == '[') row = row->first;
    forward(question, numbers(inputs), fill(inputs, NULL) / row->n, row->n);
    Step *last = &steps[depth - 1];
    int K = last->to, exact = is(get(question, "fisher"), "exact");
    double *f = last->y, *mean = reals(K), *y = numbers(target), top = f[0], sum = 0;
    int counts = !classes || y[0] != get(question, "ignore_index")->number;
    if (last->T > 1) refuse("outputs at positions");
    EACH(k, K) top = fmax(top, f[k]);
    EACH(k, K) sum += exp(f[k] - top);
    EACH(k, K) mean[k] = classes ? exp(f[k] - top) / sum
                       : gauss ? f[k] : rate ? exp(f[k]) : 1 / (1 + exp(-f[k]));
    EACH(c, exact ? K : 1) {
        double p = mean[c], root = gauss ? 1 : sqrt(rate ? p : p * (1 - p));
        EACH(k, counts ? K : 0)
            last->g[k] = !exact ? mean[k] - (classes ? k == (int)y[0] : y[k])
                       : classes ? sqrt(p) * ((k == c) - mean[k]) : k == c ? root : 0;
        backward(), gather(is(get(question, "sharing"), "reduce"), c == 0);
    }
}
static double *jacobi(double *S, int n) { /* eigenvectors as columns; S becomes diagonal */
    double *Q = reals(n * n);
    EACH(i, n) Q[i * n + i] = 1;
    EACH(sweep, 60) EACH(p, n) for (int q = p + 1; q < n; q++) if (S[p * n + q] != 0) {
        double h = (S[q * n + q] - S[p * n + p]) / (2 * S[p * n + q]);
        double t = (h < 0 ? -1 : 1) / (fabs(h) + hypot(h, 1)), c = 1 / hypot(t, 1), s = t * c;
        EACH(turn, 3) EACH(k, n) { /* columns of S, columns of Q, rows of S */
            double *M = turn == 1 ? Q : S, *x = &M[turn == 2 ? p * n + k : k * n + p];
            double *y = x + (turn == 2 ? (q - p) * n : q - p), old = *x;
            *x = c * old - s * *y, *y = s * old + c * *y;
        }
    }
    return Q;
}
static void put(FILE *out, Layer *L, const char *part, double *x, int rows, int n, double by) {
    fprintf(out, ",\n\"%s/%s\": [[", L->name->text, part);
    EACH(j, rows * n) fprintf(out, "%s%.17g", j % n ? ", " : j ? "], [" : "", x[j] / by);
    fprintf(out, "]]");
}
static void write_layer(FILE *out, Layer *L) {
    int o = L->o, i = L->i, P = o * i;
    put(out, L, "kfac/0/B", L->B, o, o, N), put(out, L, "kfac/0/A", L->A, i, i, L->rows);
    double *Q_B = jacobi(L->B, o), *Q_A = jacobi(L->A, i), *Lambda = reals(P), *G = L->G;
    for (; G < L->G + L->columns * P; G += P) EACH(r, o) EACH(s, i) {
        double x = 0;
        EACH(p, o) EACH(q, i) x += Q_B[p * o + r] * G[p * i + q] * Q_A[q * i + s];
        Lambda[r * i + s] += x * x;
    }
    put(out, L, "ekfac/0/Q_B", Q_B, o, o, 1), put(out, L, "ekfac/0/Q_A", Q_A, i, i, 1);
    put(out, L, "ekfac/0/eigenvalues", Lambda, o, i, N);
}
static void answer(J *question) {
    count = N = 0;
    for (J *told = get(question, "layers")->first; told; told = told->next) {
        J *shape = get(told, "shape");
        if (!shape || count == 64) refuse("there is no such layer");
        int o = shape->first->number, i = shape->first->next->number;
        layers[count++] = (Layer){.name = get(told, "name"), .o = o, .i = i,
                                  .A = reals(i * i), .B = reals(o * o)};
    }
    for (J *batch = get(question, "batches")->first; batch; batch = batch->next) {
        J *inputs = get(batch, "inputs"), *y = get(batch, "targets")->first;
        if (inputs->n > 1 || get(batch, "mask")->kind == '[') refuse("a mask, or two inputs");
        for (J *x = inputs->first->first; x; x = x->next, y = y->next, N++) sample(question, x, y);
    }
}
int main(int argc, char **argv) {
    char path[1000], *folder = argc > 1 ? argv[1] : ".";
    for (J *q = get(read_json(folder, "manifest.json"), "questions")->first; q; q = q->next) {
        snprintf(path, sizeof path, "questions/%s/question.json", q->key);
        J *question = read_json(folder, path);
        if (no = 1, !setjmp(refused)) answer(question), no = 0;
        const char *name = no ? "refused.txt" : "answer.json";
        snprintf(path, sizeof path, "%s/questions/%s/%s", folder, q->key, name);
        FILE *out = fopen(path, "w");
        if (!out) return perror(path), 1;
        if (no) fprintf(out, "%s\n", why);
        else fprintf(out, "{\"key\": \"%s\"", get(question, "key")->text);
        EACH(l, no ? 0 : count) write_layer(out, &layers[l]);
        fprintf(out, no ? "" : "}\n"), fclose(out);
    }
    return 0;
}
