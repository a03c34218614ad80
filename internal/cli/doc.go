// Package cli builds the commands of gantryd and gantry.
//
// A command parses, calls one function and prints; Main is all a main package calls. Human output
// goes to Out in the words of the original, which scripts know; progress and logs go to Err. An error
// is printed once, with what to do next, and decides the exit code.
//
// There is no global state: everything a command may touch outside its flags is in Env, so that
// tests run whole commands in one process.
package cli
