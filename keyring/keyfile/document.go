package keyfile

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/proto"

	"github.com/weir-gateway/weir/keyring"
	configv1 "github.com/weir-gateway/weir/proto/weir/config/v1"
)

// document is the text of a key file, and what it says.
type document struct {
	file string
	text []byte
	keys []*configv1.Key
}

// add appends a key.
func (d *document) add(k *configv1.Key) error {
	list, err := d.list()
	if err != nil {
		return err
	}
	want := append(slices.Clone(d.keys), k)
	node := nodeOf(k)
	switch {
	case list == nil: // nothing is there but comments
		text := bytes.TrimRight(d.text, "\n")
		if len(text) > 0 {
			text = append(text, '\n')
		}
		return d.become(append(append(text, "keys:\n"...), item(node, 2)...), want)
	case len(list.Content) == 0:
		return d.encoded(want, func(root *yaml.Node) {
			n := find(root)
			*n = yaml.Node{Kind: yaml.SequenceNode, Content: []*yaml.Node{node}}
		})
	case list.Style&yaml.FlowStyle != 0:
		return d.encoded(want, func(root *yaml.Node) { n := find(root); n.Content = append(n.Content, node) })
	}
	if list.Content[len(list.Content)-1].Style&yaml.FlowStyle != 0 {
		node.Style = yaml.FlowStyle
	}
	lines := bytes.SplitAfter(d.text, []byte("\n"))
	_, end := span(lines, list, len(list.Content)-1)
	if last := lines[end-1]; !bytes.HasSuffix(last, []byte("\n")) {
		lines[end-1] = append(slices.Clone(last), '\n')
	}
	lines = slices.Insert(lines, end, item(node, list.Column-1))
	return d.become(bytes.Join(lines, nil), want)
}

// change edits a key and puts its new text into the place of the old one.
func (d *document) change(id string, edit func(*configv1.Key) error) error {
	at := slices.IndexFunc(d.keys, func(k *configv1.Key) bool { return keyring.IDOf(k) == id })
	if at < 0 {
		return fmt.Errorf("%s: %w: %q", d.file, ErrNoKey, id)
	}
	list, err := d.list()
	if err != nil {
		return err
	}
	want := slices.Clone(d.keys)
	want[at] = proto.CloneOf(d.keys[at])
	if err := edit(want[at]); err != nil {
		return err
	}
	if list.Style&yaml.FlowStyle != 0 {
		return d.encoded(want, func(root *yaml.Node) { update(find(root).Content[at], want[at]) })
	}
	node := list.Content[at]
	// Comments above and below stay where they are.
	node.HeadComment, node.FootComment = "", ""
	for _, n := range node.Content[max(0, len(node.Content)-2):] {
		n.FootComment = ""
	}
	if len(node.Content) > 0 {
		node.Content[0].HeadComment = ""
	}
	update(node, want[at])
	lines := bytes.SplitAfter(d.text, []byte("\n"))
	start, end := span(lines, list, at)
	lines = slices.Replace(lines, start, end, item(node, list.Column-1))
	return d.become(bytes.Join(lines, nil), want)
}

// list is the node of the list of keys; nil if there is none.
func (d *document) list() (*yaml.Node, error) {
	var root yaml.Node
	if err := yaml.Unmarshal(d.text, &root); err != nil {
		return nil, fmt.Errorf("%s: %w", d.file, err)
	}
	return find(&root), nil
}

func find(root *yaml.Node) *yaml.Node {
	if len(root.Content) == 0 {
		return nil
	}
	members := root.Content[0].Content
	for i := 0; i+1 < len(members); i += 2 {
		if members[i].Value == "keys" {
			return members[i+1]
		}
	}
	return nil
}

// encoded changes the whole document as a tree. Comments stay; blank lines do not.
func (d *document) encoded(want []*configv1.Key, edit func(root *yaml.Node)) error {
	var root yaml.Node
	if err := yaml.Unmarshal(d.text, &root); err != nil {
		return fmt.Errorf("%s: %w", d.file, err)
	}
	edit(&root)
	return d.become(encode(&root), want)
}

// become takes a new text, if it says what it is to say.
func (d *document) become(text []byte, want []*configv1.Key) error {
	got, err := parse(d.file, text)
	if err != nil {
		return err
	}
	same := func(a, b *configv1.Key) bool { return proto.Equal(a, b) }
	if !slices.EqualFunc(got, want, same) {
		return fmt.Errorf("%s is written in a way that weir cannot change: change it with an editor", d.file)
	}
	seen := map[string]bool{}
	for _, k := range got {
		id := keyring.IDOf(k)
		if seen[id] {
			return fmt.Errorf("%s: two keys would have the id %q", d.file, id)
		}
		seen[id] = true
	}
	d.text, d.keys = text, got
	return nil
}

// span is where the text of an item of a list in block style stands: its lines, from
// that of its dash to the last one that is no comment.
func span(lines [][]byte, list *yaml.Node, at int) (start, end int) {
	dash := func(i int) int {
		line := list.Content[i].Line - 1
		for line > 0 && !isDash(lines[line], list.Column-1) {
			line--
		}
		return line
	}
	start, end = dash(at), len(lines)
	if at+1 < len(list.Content) {
		end = dash(at + 1)
	}
	for end > start+1 {
		if text := bytes.TrimSpace(lines[end-1]); len(text) > 0 && text[0] != '#' {
			break
		}
		end--
	}
	return start, end
}

func isDash(line []byte, column int) bool {
	return len(line) > column && line[column] == '-' && len(bytes.TrimSpace(line[:column])) == 0
}

// item is the text of an item of a list whose dashes stand in that column.
func item(node *yaml.Node, column int) []byte {
	text := encode(&yaml.Node{Kind: yaml.SequenceNode, Content: []*yaml.Node{node}})
	indent := []byte(strings.Repeat(" ", column))
	var out []byte
	for line := range bytes.Lines(text) {
		out = append(append(out, indent...), line...)
	}
	return out
}

func encode(node *yaml.Node) []byte {
	var b bytes.Buffer
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	if err := errors.Join(enc.Encode(node), enc.Close()); err != nil {
		return nil // which says nothing that it is to say: become refuses it
	}
	return b.Bytes()
}
