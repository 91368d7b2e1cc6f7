package gateway

// tallies are what is learned of each of many things, at most so many of them: when
// there are too many any one is forgotten. It is not safe for concurrent use.
type tallies[K comparable, T any] map[K]*T

// of is the tally of a thing, made if need be.
func (ts *tallies[K, T]) of(k K, most int) *T {
	if t := (*ts)[k]; t != nil {
		return t
	}
	if *ts == nil {
		*ts = tallies[K, T]{}
	}
	for other := range *ts {
		if len(*ts) < most {
			break
		}
		delete(*ts, other)
	}
	t := new(T)
	(*ts)[k] = t
	return t
}
