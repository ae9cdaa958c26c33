/* The floor: the cheapest call from CPython into native code that could do each operation at all. It has no snapshot, no
 * health, no weights and no errors to speak of: what aibalance costs beyond it is what those cost. Not part of the
 * package; `python -m benches.floor` builds it in place. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define TABLE 65537u   /* Envoy's default Maglev table */
#define POINTS 160u    /* ring points an endpoint */
#define WIDTH 64       /* a cache line a counter */

typedef struct { uint64_t in_flight; char pad[WIDTH - 8]; } cell;
typedef struct { uint64_t hash; uint32_t owner; } point;

typedef struct {
    PyObject_HEAD
    uint32_t n, next, points, shift;
    uint64_t seed, draws;
    PyObject **endpoints;
    cell *cells;
    uint16_t *table;
    point *ring;
    uint32_t *first;    /* top bits of a hash -> the first point that can be its successor */
} Picker;

typedef struct {
    PyObject_HEAD
    Picker *picker;
    uint32_t index;
    int live;
} Lease;

static PyTypeObject LeaseType;

/* ------------------------------------------------------------------ hashes */

static const uint64_t A = 0x9E3779B185EBCA87u, B = 0xC2B2AE3D27D4EB4Fu, C = 0x165667B19E3779F9u, D = 0x85EBCA77C2B2AE63u,
                      E = 0x27D4EB2F165667C5u;   /* the primes of XXH64's specification, 1 to 5 */

static inline uint64_t rotate(uint64_t x, int r) { return (x << r) | (x >> (64 - r)); }
static inline uint64_t word(const char *p) { uint64_t v; memcpy(&v, p, 8); return v; }
static inline uint64_t half(const char *p) { uint32_t v; memcpy(&v, p, 4); return v; }

/* XXH64 of fewer than 32 bytes, seed 0: enough for the keys that are measured. */
static inline uint64_t xxh64_short(const char *p, Py_ssize_t length)
{
    const char *end = p + length;
    uint64_t h = E + (uint64_t)length;
    for (; p + 8 <= end; p += 8) h = rotate(h ^ (rotate(word(p) * B, 31) * A), 27) * A + D;
    for (; p + 4 <= end; p += 4) h = rotate(h ^ (half(p) * A), 23) * B + C;
    for (; p < end; p++) h = rotate(h ^ ((uint64_t)(unsigned char)*p * E), 11) * A;
    h = (h ^ (h >> 33)) * B;
    h = (h ^ (h >> 29)) * C;
    return h ^ (h >> 32);
}

static inline uint64_t mix(uint64_t x)   /* SplitMix64's finaliser */
{
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}

/* ------------------------------------------------------------------- picks */

static inline PyObject *endpoint(Picker *p, uint32_t i) { return Py_NewRef(p->endpoints[i]); }

static PyObject *none(PyObject *self, PyObject *unused) { Py_RETURN_NONE; }

static PyObject *round_robin(PyObject *self, PyObject *unused)
{
    Picker *p = (Picker *)self;
    uint32_t i = p->next;
    p->next = i + 1 == p->n ? 0 : i + 1;
    return endpoint(p, i);
}

static inline uint32_t two_choices(Picker *p)
{
    uint64_t r = mix(p->seed + ++p->draws * 0x9E3779B97F4A7C15u);
    uint32_t a = (uint32_t)(((r & 0xFFFFFFFFu) * p->n) >> 32), b = (uint32_t)(((r >> 32) * (p->n - 1)) >> 32);
    b += b >= a;
    return p->cells[a].in_flight <= p->cells[b].in_flight ? a : b;
}

static PyObject *power_of_two(PyObject *self, PyObject *unused)
{
    Picker *p = (Picker *)self;
    return endpoint(p, two_choices(p));
}

/* The hash of a short str key; 0 and an exception set when it is none. */
static inline int key_hash(PyObject *key, uint64_t *h)
{
    Py_ssize_t length;
    const char *text = PyUnicode_AsUTF8AndSize(key, &length);
    if (!text) return -1;
    if (length >= 32) { PyErr_SetString(PyExc_ValueError, "key: at most 31 bytes here"); return -1; }
    *h = xxh64_short(text, length);
    return 0;
}

static PyObject *maglev(PyObject *self, PyObject *key)
{
    Picker *p = (Picker *)self;
    uint64_t h;
    if (key_hash(key, &h) < 0) return NULL;
    return endpoint(p, p->table[h % TABLE]);
}

static PyObject *ring(PyObject *self, PyObject *key)
{
    Picker *p = (Picker *)self;
    uint64_t h;
    if (key_hash(key, &h) < 0) return NULL;
    uint32_t i = p->first[h >> p->shift];
    while (i < p->points && p->ring[i].hash < h) i++;
    return endpoint(p, p->ring[i == p->points ? 0 : i].owner);
}

/* ------------------------------------------------------------------ leases */

static PyObject *acquire(PyObject *self, PyObject *unused)
{
    Picker *p = (Picker *)self;
    Lease *lease = PyObject_New(Lease, &LeaseType);
    if (!lease) return NULL;
    lease->index = two_choices(p);
    lease->live = 1;
    lease->picker = (Picker *)Py_NewRef(self);
    p->cells[lease->index].in_flight++;
    return (PyObject *)lease;
}

static inline void finish(Lease *lease)
{
    lease->picker->cells[lease->index].in_flight -= (uint64_t)lease->live;
    lease->live = 0;
}

static PyObject *lease_release(PyObject *self, PyObject *unused) { finish((Lease *)self); Py_RETURN_NONE; }
static PyObject *lease_enter(PyObject *self, PyObject *unused) { return Py_NewRef(self); }
static PyObject *lease_exit(PyObject *self, PyObject *const *args, Py_ssize_t n) { finish((Lease *)self); Py_RETURN_NONE; }

static void lease_dealloc(PyObject *self)
{
    finish((Lease *)self);
    Py_DECREF(((Lease *)self)->picker);
    PyObject_Free(self);
}

static PyMethodDef lease_methods[] = {
    {"release", lease_release, METH_NOARGS, NULL},
    {"__enter__", lease_enter, METH_NOARGS, NULL},
    {"__exit__", (PyCFunction)(void *)lease_exit, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};

static PyTypeObject LeaseType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "floor.Lease",
    .tp_basicsize = sizeof(Lease),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_methods = lease_methods,
    .tp_dealloc = lease_dealloc,
};

/* -------------------------------------------------------------- the picker */

static int by_hash(const void *a, const void *b)
{
    uint64_t x = ((const point *)a)->hash, y = ((const point *)b)->hash;
    return (x > y) - (x < y);
}

static void build_table(Picker *p)   /* Maglev, Eisenbud et al. 2016, section 3.4 */
{
    uint32_t filled = 0, *turn = calloc(p->n, sizeof *turn);
    memset(p->table, 0xFF, TABLE * sizeof *p->table);
    for (uint32_t i = 0; turn && filled < TABLE; i = i + 1 == p->n ? 0 : i + 1) {
        uint64_t offset = mix(2 * i + 1) % TABLE, skip = mix(2 * i + 2) % (TABLE - 1) + 1, slot;
        do slot = (offset + skip * turn[i]++) % TABLE; while (p->table[slot] != 0xFFFF);
        p->table[slot] = (uint16_t)i;
        filled++;
    }
    free(turn);
}

static void build_ring(Picker *p)
{
    for (uint32_t i = 0; i < p->points; i++) p->ring[i] = (point){mix(i + 1), i / POINTS};
    qsort(p->ring, p->points, sizeof *p->ring, by_hash);
    uint32_t buckets = 1u << (64 - p->shift);
    for (uint32_t b = 0, i = 0; b < buckets; b++) {
        while (i < p->points && p->ring[i].hash < (uint64_t)b << p->shift) i++;
        p->first[b] = i;
    }
}

static PyObject *picker_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *given;
    if (!PyArg_ParseTuple(args, "O:Picker", &given)) return NULL;
    PyObject *list = PySequence_Tuple(given);
    if (!list) return NULL;
    Py_ssize_t n = PyTuple_GET_SIZE(list);
    if (n < 2 || n > 4096) { Py_DECREF(list); PyErr_SetString(PyExc_ValueError, "2 to 4096 endpoints"); return NULL; }
    Picker *p = (Picker *)type->tp_alloc(type, 0);
    if (!p) { Py_DECREF(list); return NULL; }
    p->n = (uint32_t)n;
    p->points = p->n * POINTS;
    for (p->shift = 63; (1u << (64 - p->shift)) < 2 * p->points; p->shift--) {}
    p->seed = 42;
    p->endpoints = calloc(p->n, sizeof *p->endpoints);
    p->cells = aligned_alloc(WIDTH, p->n * sizeof *p->cells);
    p->table = malloc(TABLE * sizeof *p->table);
    p->ring = malloc(p->points * sizeof *p->ring);
    p->first = malloc((1u << (64 - p->shift)) * sizeof *p->first);
    if (!p->endpoints || !p->cells || !p->table || !p->ring || !p->first) { Py_DECREF(list); Py_DECREF(p); return PyErr_NoMemory(); }
    memset(p->cells, 0, p->n * sizeof *p->cells);
    for (uint32_t i = 0; i < p->n; i++) p->endpoints[i] = Py_NewRef(PyTuple_GET_ITEM(list, i));
    Py_DECREF(list);
    build_table(p);
    build_ring(p);
    return (PyObject *)p;
}

static void picker_dealloc(PyObject *self)
{
    Picker *p = (Picker *)self;
    for (uint32_t i = 0; p->endpoints && i < p->n; i++) Py_XDECREF(p->endpoints[i]);
    free(p->endpoints); free(p->cells); free(p->table); free(p->ring); free(p->first);
    Py_TYPE(self)->tp_free(self);
}

static PyMethodDef picker_methods[] = {
    {"none", none, METH_NOARGS, NULL},
    {"round_robin", round_robin, METH_NOARGS, NULL},
    {"power_of_two", power_of_two, METH_NOARGS, NULL},
    {"maglev", maglev, METH_O, NULL},
    {"ring", ring, METH_O, NULL},
    {"acquire", acquire, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyTypeObject PickerType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "floor.Picker",
    .tp_basicsize = sizeof(Picker),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_methods = picker_methods,
    .tp_new = picker_new,
    .tp_dealloc = picker_dealloc,
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, .m_name = "_floor", .m_size = -1};

PyMODINIT_FUNC PyInit__floor(void)
{
    if (PyType_Ready(&PickerType) < 0 || PyType_Ready(&LeaseType) < 0) return NULL;
    PyObject *m = PyModule_Create(&module);
    if (m && PyModule_AddObjectRef(m, "Picker", (PyObject *)&PickerType) < 0) Py_CLEAR(m);
    return m;
}
