"""Where a finding shows: saliency, anatomy, boxes, and the picture a person looks at."""
