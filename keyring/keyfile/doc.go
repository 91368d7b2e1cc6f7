// Package keyfile changes key files of weir's own format.
//
// A change takes a lock, reads the file, replaces the text of the one key that it is
// about, and renames a complete new file into the place of the old one. So readers
// never see half a file, two changes never lose each other, and comments, order and the
// text of all other keys stay as they are.
package keyfile
