// Package xsync is a fake, see libpf. The exporter makes a lock when it starts, so this one locks.
package xsync

import "sync"

// RWMutex guards a value.
type RWMutex[T any] struct {
	mutex sync.RWMutex
	value T
}

// NewRWMutex guards a value.
func NewRWMutex[T any](value T) RWMutex[T] { return RWMutex[T]{value: value} }

// WLock lends the value to one writer.
func (guard *RWMutex[T]) WLock() *T {
	guard.mutex.Lock()
	return &guard.value
}

// WUnlock takes it back.
func (guard *RWMutex[T]) WUnlock(lent **T) {
	*lent = nil
	guard.mutex.Unlock()
}
