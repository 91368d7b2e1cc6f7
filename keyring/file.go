package keyring

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/weir-gateway/weir/config"
	configv1 "github.com/weir-gateway/weir/proto/weir/config/v1"
)

// load builds a ring from files. Warnings tell of what works but is unsafe.
func load(cfg config.Keys) (r *Ring, warnings []string, err error) {
	pepper, err := Pepper(cfg.PepperFile)
	if err != nil {
		return nil, nil, err
	}
	r = emptyRing(pepper)
	var wrong []error // all that is, in all files
	for _, file := range cfg.Files {
		w, err := r.addFile(file)
		wrong, warnings = append(wrong, err), append(warnings, w...)
	}
	if err := config.Join(wrong...); err != nil {
		return nil, nil, err
	}
	return r, warnings, nil
}

// Pepper reads the secret of peppered hashes; it is nil where there is no such file.
func Pepper(file string) ([]byte, error) {
	if file == "" {
		return nil, nil
	}
	pepper, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read pepper: %w", err)
	}
	if pepper = bytes.TrimSpace(pepper); len(pepper) < 16 {
		return nil, fmt.Errorf("read pepper: %s holds fewer than 16 bytes", file)
	}
	return pepper, nil
}

func (r *Ring) addFile(file string) (warnings []string, err error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read keys: %w", err)
	}
	info, err := os.Stat(file)
	if err != nil {
		return nil, fmt.Errorf("read keys: %w", err)
	}
	var secrets bool
	if bytes.HasPrefix(bytes.TrimSpace(text), []byte("{")) {
		warnings, err = r.addJSON(file, text)
		secrets = err == nil
	} else {
		secrets, err = r.addYAML(file, text)
	}
	if secrets && info.Mode().Perm()&0o077 != 0 {
		warnings = append(warnings, fmt.Sprintf("%s holds secrets and can be read by others: chmod 600 %s", file, file))
	}
	return warnings, err
}

// addYAML reads weir's own format.
func (r *Ring) addYAML(file string, text []byte) (secrets bool, err error) {
	msg, err := config.ParseKeyFile(file, text, func(f *configv1.KeyFile, report config.Report) {
		for i, k := range f.GetKeys() {
			secrets = secrets || k.GetSecret() != ""
			r.addKey(file, k, func(field string, err error) { report(fmt.Sprintf("keys[%d]%s", i, field), "%v", err) })
		}
	})
	if err != nil {
		return false, err
	}
	if len(msg.GetKeys()) == 0 {
		return false, fmt.Errorf("%s: holds no keys; to revoke all, set enabled: false on each", file)
	}
	return secrets, nil
}

// IDOf is the id of a key of a file, which may be derived from its secret.
func IDOf(k *configv1.Key) string {
	if k.GetId() != "" {
		return k.GetId()
	}
	_, d, err := (&Ring{pepper: []byte{}}).digestOf(k.GetHash(), k.GetSecret())
	if err != nil {
		return ""
	}
	return derivedID(d)
}

// addKey puts a key of a file in. It reports what is wrong with which of its fields.
func (r *Ring) addKey(file string, k *configv1.Key, report func(field string, err error)) {
	key := fromProto(k, report)
	key.File = file
	in, d, err := r.digestOf(k.GetHash(), k.GetSecret())
	switch {
	case k.GetHash() == "" && k.GetSecret() == "": // which is told
		err = r.claim(key)
	case err != nil:
		report(".hash", err)
		err = r.claim(key) // its id may be another's
	default:
		err = r.add(in, d, key)
	}
	if err != nil {
		report("", err)
		return
	}
	for i, p := range k.GetPrevious() {
		at := fmt.Sprintf(".previous[%d]", i)
		if p.GetHash() == "" && p.GetSecret() == "" {
			continue // likewise
		}
		in, d, err := r.digestOf(p.GetHash(), p.GetSecret())
		if err != nil {
			report(at+".hash", err)
			continue
		}
		until, err := moment(p.GetUntil())
		if err != nil {
			report(at+".until", err)
			continue
		}
		if err := r.addPrevious(in, d, key, until); err != nil {
			report(at, err)
		}
	}
}

// digestOf is the digest of a secret, given as itself or as a hash, and where in the
// ring it belongs.
func (r *Ring) digestOf(hash, secret string) (in map[digest]entry, d digest, err error) {
	if secret != "" {
		return r.plain, plainDigest(secret), nil
	}
	kind, digits, _ := strings.Cut(hash, ":")
	if _, err := hex.Decode(d[:], []byte(digits)); err != nil {
		return nil, d, fmt.Errorf("is no hash: %w", err)
	}
	if kind == "sha256" {
		return r.plain, d, nil
	}
	if r.pepper == nil {
		return nil, d, errors.New("hmac-sha256 needs keys.pepper_file in weir.yaml")
	}
	return r.peppered, d, nil
}

func fromProto(k *configv1.Key, report func(field string, err error)) *Key {
	key := &Key{
		ID: k.GetId(), User: k.GetUser(), Team: k.GetTeam(), Plan: k.GetPlan(),
		Models: k.GetModels(), Endpoints: k.GetEndpoints(),
		Disabled: k.Enabled != nil && !k.GetEnabled(),
		Limits:   config.Limits(k.GetLimits()),
		Label:    k.GetLabel(), Metadata: k.GetMetadata(),
	}
	for i, c := range k.GetCidrs() {
		p, err := netip.ParsePrefix(c)
		if err != nil {
			report(fmt.Sprintf(".cidrs[%d]", i), err)
		}
		key.CIDRs = append(key.CIDRs, p)
	}
	for _, f := range []struct {
		field, text string
		to          *time.Time
	}{{".expires", k.GetExpires(), &key.Expires}, {".created", k.GetCreated(), &key.Created}, {".revoked", k.GetRevoked(), &key.Revoked}} {
		t, err := moment(f.text)
		if err != nil {
			report(f.field, errors.New("must be a time such as 2027-01-31T00:00:00Z"))
		}
		*f.to = t
	}
	return key
}

// moment reads a time in RFC 3339; "" is the zero time.
func moment(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	return time.Parse(time.RFC3339, text)
}

// OlderKey is a key in it.
type OlderKey struct {
	Key     string `json:"key"` // the secret
	User    string `json:"user"`
	Quota   int64  `json:"quota"` // tokens a minute; 0: no limit
	Enabled *bool  `json:"enabled"`
}

// Message is the key in weir's own format, with the id that it has had all along and a
// hash of its secret.
func (o OlderKey) Message(pepper []byte) *configv1.Key {
	k := &configv1.Key{Id: derivedID(plainDigest(o.Key)), Hash: PepperedHash(pepper, o.Key), User: o.User}
	if o.Enabled != nil && !*o.Enabled {
		k.Enabled = new(false)
	}
	if o.Quota > 0 {
		k.Limits = []*configv1.Limit{{Name: "quota", Per: []configv1.Scope{configv1.Scope_key}, Tokens: fmt.Sprintf("%d/m", o.Quota)}}
	}
	return k
}

// ParseOlder reads the JSON of an older gateway, as config.ParseKeyFile reads weir's own.
// The error holds a line for every mistake.
func ParseOlder(file string, text []byte, check func([]OlderKey, config.Report)) (keys []OlderKey, err error) {
	var f struct {
		Keys []map[string]json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(text, &f); err != nil {
		if kind := (*json.UnmarshalTypeError)(nil); errors.As(err, &kind) {
			err = fmt.Errorf("must be {\"keys\": [{\"key\": …, \"user\": …}]}, and has a %s in the place of a list or an object", kind.Value)
		}
		return nil, fmt.Errorf("%s%s: %w", file, position(text, err), err)
	}
	if len(f.Keys) == 0 {
		return nil, fmt.Errorf("%s: holds no keys; to revoke all, set \"enabled\": false on each", file)
	}
	err = config.MistakesIn(file, text, func(report config.Report) {
		for i, members := range f.Keys {
			keys = append(keys, olderKey(members, func(field, what string) { report(fmt.Sprintf("keys[%d]%s", i, field), "%s", what) }))
		}
		if check != nil {
			check(keys, report)
		}
	})
	return keys, err
}

// olderKey reads the members of a key, and reports those of the wrong kind.
func olderKey(members map[string]json.RawMessage, report func(field, what string)) (k OlderKey) {
	for _, m := range []struct {
		name, want string
		to         any
	}{
		{"key", "must be text, in quotes", &k.Key},
		{"user", "must be text, in quotes", &k.User},
		{"quota", "must be a whole number of tokens a minute, without quotes", &k.Quota},
		{"enabled", "must be true or false, without quotes", &k.Enabled},
	} {
		for name, raw := range members {
			if !strings.EqualFold(name, m.name) {
				continue
			}
			if err := json.Unmarshal(raw, m.to); err != nil {
				report("."+m.name, m.want)
				if m.name == "key" {
					return k
				}
			}
		}
	}
	if k.Key == "" {
		report("", "needs a key that is not empty")
	}
	if k.Quota < 0 {
		report(".quota", "must not be negative")
	}
	return k
}

// MinSecret is how many characters a secret should have at least: one of fewer can be
// guessed.
const MinSecret = 16

// addJSON reads the older format. Secrets that can be guessed are warned of only: their
// users have them.
func (r *Ring) addJSON(file string, text []byte) (warnings []string, err error) {
	_, err = ParseOlder(file, text, func(keys []OlderKey, report config.Report) {
		for i, k := range keys {
			if k.Key == "" {
				continue // which is told
			}
			key := &Key{User: k.User, File: file, Disabled: k.Enabled != nil && !*k.Enabled}
			if k.Quota > 0 {
				key.Limits = []config.Limit{{
					Name: "quota", Per: []config.Scope{config.PerKey}, Unit: config.Tokens, Amount: k.Quota, Window: time.Minute,
				}}
			}
			if err := r.add(r.plain, plainDigest(k.Key), key); err != nil {
				report(fmt.Sprintf("keys[%d]", i), "%v", err)
			}
			if len(k.Key) < MinSecret {
				warnings = append(warnings, fmt.Sprintf("%s: the secret of key %s has fewer than %d characters, and can be guessed: weir keys new makes a good one", file, key.ID, MinSecret))
			}
		}
	})
	return warnings, err
}

// position is ":line:column" of a JSON error, "" when it has none.
func position(text []byte, err error) string {
	var syntax *json.SyntaxError
	if !errors.As(err, &syntax) {
		return ""
	}
	before := text[:min(int(syntax.Offset), len(text))]
	line := 1 + bytes.Count(before, []byte("\n"))
	return fmt.Sprintf(":%d:%d", line, len(before)-bytes.LastIndexByte(before, '\n')-1)
}
