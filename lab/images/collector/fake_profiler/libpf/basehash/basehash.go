// Package basehash is a fake, see libpf.
package basehash

import (
	"encoding/base64"
	"errors"
)

// Hash128 stands for a hash.
type Hash128 [16]byte

// New128 stands for the making of a hash.
func New128(_, _ uint64) Hash128 { return Hash128{} }

// New128FromBytes refuses all bytes.
func New128FromBytes([]byte) (Hash128, error) {
	return Hash128{}, errors.New("this Collector was built without profiles")
}

// Base64 returns the hash as text.
func (hash Hash128) Base64() string { return base64.RawURLEncoding.EncodeToString(hash[:]) }
