"""The compiled twins of ``per_bits``, ``per_types`` and ``per``, put here by setup.py where it finds Cython and a C compiler.

The ``.pxd`` files beside this one give the sources their C types; they change how quick the code is, never what it does.
"""
