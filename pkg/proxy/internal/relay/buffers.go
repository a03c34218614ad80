package relay

import (
	"sync"
	"sync/atomic"
)

// Buffer sizes. A read that fills a small buffer is followed by reads into a large one, as long as
// there are large ones left: a writer that waits for a slow reader keeps its buffer.
const (
	smallBuffer  = 16 << 10
	largeBuffer  = 64 << 10
	largeBuffers = 256
)

// Buffers lends memory to relays. An idle connection has none of it.
type Buffers struct {
	small, large sync.Pool
	lent         atomic.Int64 // large ones
}

// NewBuffers returns a lender of which nothing is lent.
func NewBuffers() *Buffers {
	return &Buffers{
		small: sync.Pool{New: func() any { return new([smallBuffer]byte) }},
		large: sync.Pool{New: func() any { return new([largeBuffer]byte) }},
	}
}

// Lent is how many large buffers relays have.
func (b *Buffers) Lent() int { return int(b.lent.Load()) }

// A Loan is a buffer that must be given back.
type Loan struct {
	small *[smallBuffer]byte
	large *[largeBuffer]byte
}

// Lend lends a buffer, a large one if there are any left and one is asked for.
func (b *Buffers) Lend(large bool) Loan {
	if large {
		if b.lent.Add(1) <= largeBuffers {
			return Loan{large: b.large.Get().(*[largeBuffer]byte)}
		}
		b.lent.Add(-1)
	}
	return Loan{small: b.small.Get().(*[smallBuffer]byte)}
}

// GiveBack ends a loan.
func (b *Buffers) GiveBack(l Loan) {
	if l.large != nil {
		b.lent.Add(-1)
		b.large.Put(l.large)
		return
	}
	b.small.Put(l.small)
}

// IsLarge reports whether it is one of the large buffers.
func (l Loan) IsLarge() bool { return l.large != nil }

// Bytes is the buffer.
func (l Loan) Bytes() []byte {
	if l.large != nil {
		return l.large[:]
	}
	return l.small[:]
}
