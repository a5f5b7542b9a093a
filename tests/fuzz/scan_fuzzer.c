/* The libFuzzer target for _speedups.c, built with AddressSanitizer and UndefinedBehaviorSanitizer by run.py.
 *
 * It embeds the interpreter whose sippet_gevent it tests (PYTHON, found in ROOT) and puts the instrumented _speedups.c in the place of the
 * compiled module. Each input goes to check_entries() of oracle.py, which calls every entry point there is and compares
 * it with its twin: a new function of _speedups.c needs a row there and no line here.
 *
 * Python's memory comes from malloc(), so that each object has its red zones.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

PyMODINIT_FUNC PyInit__speedups(void);

static PyObject *check;

static const char prepare[] =
    "import sys\n"
    "sys.path.insert(0, ROOT)\n"
    "import importlib.machinery, importlib.util\n"
    "spec = importlib.machinery.ModuleSpec('_speedups', importlib.machinery.BuiltinImporter)\n"
    "sys.modules['sippet_gevent.message._speedups'] = importlib.util.module_from_spec(spec)\n"
    "from sippet_gevent.message import parser\n"
    "from tests.fuzz import oracle\n"
    "assert parser.scan is oracle.c.scan is sys.modules['sippet_gevent.message._speedups'].scan\n"
    "check = oracle.check_entries\n";

static void die(void)
{
    PyErr_Print();
    fflush(NULL);
    abort();
}

int LLVMFuzzerInitialize(int *count, char ***arguments)
{
    PyPreConfig first;
    PyConfig config;
    (void)count;
    (void)arguments;

    PyPreConfig_InitPythonConfig(&first);
    first.allocator = PYMEM_ALLOCATOR_MALLOC;
    if (PyStatus_Exception(Py_PreInitialize(&first)))
        abort();
    PyImport_AppendInittab("_speedups", PyInit__speedups);
    PyConfig_InitPythonConfig(&config);
    config.install_signal_handlers = 0;
    if (PyStatus_Exception(PyConfig_SetBytesString(&config, &config.program_name, PYTHON)) ||
        PyStatus_Exception(Py_InitializeFromConfig(&config)))
        abort();
    PyConfig_Clear(&config);

    PyObject *names = PyDict_New(), *root = PyUnicode_DecodeFSDefault(ROOT);
    if (!names || !root || PyDict_SetItemString(names, "ROOT", root) ||
        PyDict_SetItemString(names, "__builtins__", PyEval_GetBuiltins()) || !PyRun_String(prepare, Py_file_input, names, names))
        die();
    check = PyDict_GetItemString(names, "check");
    if (!check)
        die();
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *octets, size_t size)
{
    PyObject *result = PyObject_CallFunction(check, "y#", (const char *)octets, (Py_ssize_t)size);
    if (!result)
        die();
    Py_DECREF(result);
    return 0;
}
