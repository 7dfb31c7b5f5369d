"""What several operators use: solvers, pyramids, colour spaces."""
