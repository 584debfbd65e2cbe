"""Draw the Links screen: which links a cell stands for, the matrix, the map, the graph and the distributions."""
