package carry

// A Presence is what the kernel knows of a client that nothing was read from yet.
type Presence int

// Presences.
const (
	There   Presence = iota
	SaidAll          // it closed its half, and may wait for an answer to what it said, or have left
	Gone             // it closed its half without a word, or reset the connection
)
