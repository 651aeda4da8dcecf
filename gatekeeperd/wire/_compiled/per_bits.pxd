# C types for per_bits.py.
cimport cython
from libc.stdint cimport int64_t, uint64_t

cdef int MAX_DEPTH

@cython.final
cdef class Reader:
    cdef bytes data
    cdef Py_ssize_t pos
    cdef Py_ssize_t end
    cdef Py_ssize_t items
    cdef int depth

    cdef void enter(self, Py_ssize_t items) except *
    cdef void spend(self, Py_ssize_t items) except *
    @cython.locals(pos=Py_ssize_t, stop=Py_ssize_t, index=Py_ssize_t, last=Py_ssize_t, value=uint64_t, data=bytes)
    cdef int64_t bits(self, int count) except -1
    @cython.locals(start=Py_ssize_t, stop=Py_ssize_t)
    cdef bytes octets(self, Py_ssize_t count)
    @cython.locals(index=Py_ssize_t, value=int)
    cdef Py_ssize_t length(self) except -1
    @cython.locals(value=int)
    cdef int small(self) except -1
    @cython.locals(index=Py_ssize_t)
    cdef void finish(self) except *

@cython.final
cdef class Writer:
    cdef bytearray out
    cdef uint64_t tail
    cdef int pending
    cdef int depth

    cdef void enter(self) except *
    @cython.locals(tail=uint64_t, pending=int)
    cdef void bits(self, uint64_t value, int count) except *
    cdef void align(self) except *
    cdef void octets(self, bytes value) except *
    cdef void length(self, Py_ssize_t value) except *
    cdef Py_ssize_t open(self) except -1
    @cython.locals(length=Py_ssize_t)
    cdef void close(self, Py_ssize_t start) except *
